# The software bill of materials, as CycloneDX: every crate of Cargo.lock with its checksum and what it needs, and what the
# build takes besides. Made while evaluating, of nothing but the source and the pinned nixpkgs: the same file everywhere.
#
# Cargo.lock knows crates, not features: it lists those of codecs that are not compiled in, too.
{
  lib,
  writeText,
  glibc,
  rustc,
  tzdata,
}:
let
  manifest = (lib.importTOML ../Cargo.toml).package;
  crates = (lib.importTOML ../Cargo.lock).package;

  reference = crate: "pkg:cargo/${crate.name}@${crate.version}";
  # A dependency is named alone where there is one crate of that name, else with its version.
  resolve =
    dependency:
    let
      words = lib.splitString " " dependency;
      fits =
        crate:
        crate.name == lib.head words && (lib.length words == 1 || crate.version == lib.elemAt words 1);
    in
    reference (lib.findFirst fits (throw "Cargo.lock: there is no crate ${dependency}") crates);

  library = crate: {
    type = "library";
    bom-ref = reference crate;
    inherit (crate) name version;
    purl = reference crate;
    hashes = lib.optional (crate ? checksum) {
      alg = "SHA-256";
      content = crate.checksum;
    };
  };
  # What is in the program or beside it without being a crate.
  input = type: package: {
    inherit type;
    bom-ref = "pkg:generic/${lib.getName package}@${lib.getVersion package}";
    name = lib.getName package;
    version = lib.getVersion package;
  };
  inputs = [
    (input "library" glibc)
    (input "library" rustc)
    (input "data" tzdata)
  ];

  own = lib.findFirst (crate: crate.name == manifest.name) (throw "Cargo.lock lacks the program") crates;
  others = lib.filter (crate: crate != own) crates;
  bom = {
    bomFormat = "CycloneDX";
    specVersion = "1.5";
    version = 1;
    metadata.component = {
      type = "application";
      bom-ref = reference own;
      inherit (manifest) name version description;
      purl = reference own;
      licenses = [ { license.id = manifest.license; } ];
    };
    components = map library others ++ inputs;
    dependencies = map (crate: {
      ref = reference crate;
      dependsOn =
        map resolve (crate.dependencies or [ ])
        ++ lib.optionals (crate == own) (map (package: package.bom-ref) inputs);
    }) crates;
  };
  text = builtins.toJSON bom;
in
writeText "weather.cdx.json" text
// {
  sha256 = builtins.hashString "sha256" text;
}

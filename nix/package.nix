# The program: one static binary that refers to nothing else in the store.
#
# Static against glibc, not musl: over 4 M readings musl's allocator and memcpy cost more than twice the CPU. glibc reads
# /etc/hosts and asks DNS without any library at run time, so the binary runs in an empty root all the same.
{
  lib,
  rustPlatform,
  glibc,
  nukeReferences,
  # Compression codecs beside gzip and snappy: lz4, zstd. They are C, built in all the same.
  codecs ? [ ],
}:
let
  manifest = lib.importTOML ../Cargo.toml;
  # Only what cargo reads: a change of documents, manifests or Terraform does not rebuild the program.
  files = lib.fileset.unions [
    ../Cargo.toml
    ../Cargo.lock
    ../clippy.toml
    ../rustfmt.toml
    ../src
    (lib.fileset.difference ../tests ../tests/deploy)
    (lib.fileset.maybeMissing ../benches)
  ];
in
rustPlatform.buildRustPackage {
  pname = manifest.package.name;
  inherit (manifest.package) version;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = files;
  };
  cargoLock.lockFile = ../Cargo.lock;
  buildFeatures = codecs;

  # libc.a by a flag and not as a build input, so that build scripts and procedural macros still find the shared libc alone;
  # strip as Cargo.toml has it, because the builder turns that off and keeps the symbol table, a tenth of the program.
  env.RUSTFLAGS = "-C target-feature=+crt-static -C strip=symbols -L native=${glibc.static}/lib";

  # checks.tests runs them; the image does not wait for that.
  doCheck = false;

  # glibc's own paths (locales, gconv), which a static program cannot use, would draw all of glibc into the image.
  nativeBuildInputs = [ nukeReferences ];
  postFixup = ''
    nuke-refs $out/bin/weather
  '';
  allowedReferences = [ ];

  passthru = { inherit files; };

  meta = {
    inherit (manifest.package) description;
    license = lib.licenses.asl20;
    mainProgram = "weather";
    platforms = lib.platforms.linux;
  };
}

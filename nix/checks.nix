# `nix flake check`: everything that needs no running service.
{
  lib,
  runCommand,
  cargo,
  clippy,
  rustfmt,
  kubectl,
  nixfmt,
  python3,
  opentofu,
  packages,
}:
let
  inherit (packages) weather;
  # What cargo runs instead of the release build, on the package's own source and dependencies.
  cargoCheck =
    name: tools: command:
    weather.overrideAttrs (old: {
      pname = "weather-${name}";
      # A test reads the README.
      src = lib.fileset.toSource {
        root = ../.;
        fileset = lib.fileset.union weather.files ../README.md;
      };
      nativeBuildInputs = old.nativeBuildInputs ++ tools;
      # Static linking is for the image; tests link as on any developer's machine.
      env = removeAttrs old.env [ "RUSTFLAGS" ];
      buildPhase = ''
        runHook preBuild
        ${command}
        runHook postBuild
      '';
      installPhase = "touch $out";
      doCheck = false;
      postFixup = "";
    });
  check =
    name: tools: script:
    runCommand "weather-${name}" { nativeBuildInputs = tools; } ''
      ${script}
      touch $out
    '';
in
{
  inherit (packages)
    weather
    image
    image-all-codecs
    image-stunnel
    ;

  rust-format =
    check "rust-format"
      [
        cargo
        rustfmt
      ]
      ''
        cd ${weather.src}
        cargo fmt --check
      '';

  clippy = cargoCheck "clippy" [ clippy ] "cargo clippy --offline --all-targets -- -D warnings";

  # Tests with services are for tests/run, which starts these.
  tests = cargoCheck "tests" [ ] "cargo test --offline --lib --bins";

  image-content = check "image-content" [ python3 ] ''
    python3 ${./check_image.py} ${packages.image} latest
    python3 ${./check_image.py} ${packages.image-all-codecs} all-codecs
  '';

  sbom-content = check "sbom-content" [ python3 ] ''
    python3 ${./check_sbom.py} ${packages.sbom} ${../Cargo.lock}
  '';

  nix-format = check "nix-format" [ nixfmt ] ''
    nixfmt --check ${../flake.nix} ${./.}/*.nix
  '';

  terraform = check "terraform" [ opentofu ] ''
    cp -r ${../terraform} terraform
    # Rules and dashboard are read from there.
    cp -r ${../k8s} k8s
    chmod -R u+w terraform
    cd terraform
    tofu fmt -check -recursive -diff
    tofu init -backend=false
    tofu validate
    tofu test
  '';

  kustomize = check "kustomize" [ kubectl ] ''
    cp -r ${../k8s} k8s
    chmod -R u+w k8s
    for overlay in k8s/overlays/*; do
      touch "$overlay/postgres-password" "$overlay/kafka-password"
      kubectl kustomize "$overlay" > /dev/null
    done
  '';
}

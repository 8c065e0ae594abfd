# All that tests/run and the deployment walk of the README need. Docker, where minikube shall use it, comes from the host.
{
  lib,
  stdenv,
  mkShell,
  writeShellScriptBin,
  cargo,
  clippy,
  rustc,
  rustfmt,
  rust-analyzer,
  postgresql,
  apacheKafka,
  jdk21_headless,
  maven,
  chromium,
  chromedriver,
  python3,
  opentofu,
  kubectl,
  jq,
  openssl,
  nixfmt,
  prometheus,
  stunnel,
  nixpkgs,
}:
mkShell {
  packages = [
    cargo
    clippy
    rustc
    rustfmt
    rust-analyzer
    postgresql
    apacheKafka
    jdk21_headless
    maven
    python3
    opentofu
    # Terraform's licence is not a free one; OpenTofu understands the same files and commands.
    (writeShellScriptBin "terraform" ''exec tofu "$@"'')
    kubectl
    # Fetched when it is first called: it brings along the virtual machines' drivers, more than all the rest together.
    (writeShellScriptBin "minikube" ''
      exec nix --extra-experimental-features 'nix-command flakes' run ${nixpkgs}#minikube -- "$@"
    '')
    jq
    openssl
    nixfmt
    # What surrounds a deployment: tests/deploy/services.
    prometheus
    prometheus.cli
    stunnel
    # As minikube: what its documents are made with is more than all the rest.
    (writeShellScriptBin "pgbouncer" ''
      exec nix --extra-experimental-features 'nix-command flakes' run ${nixpkgs}#pgbouncer -- "$@"
    '')
  ]
  # The dashboard is tested in a real browser, which on a Mac is not of nixpkgs.
  ++ lib.optionals stdenv.hostPlatform.isLinux [
    chromium
    chromedriver
  ];
  env.JAVA_HOME = jdk21_headless.home;
}

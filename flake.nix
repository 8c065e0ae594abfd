{
  description = "Realtime weather averages from Kafka to PostgreSQL: one static binary and its image";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      forSystems = systems: f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      linux = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      # On a Mac one develops; what is built there is built for Linux, by a Linux builder.
      darwin = [ "aarch64-darwin" ];
      forLinux = forSystems linux;
      forDarwin = forSystems darwin;
    in
    {
      packages =
        forLinux (pkgs: rec {
          weather = pkgs.callPackage ./nix/package.nix { };
          weather-all-codecs = weather.override {
            codecs = [
              "lz4"
              "zstd"
            ];
          };
          sbom = pkgs.callPackage ./nix/sbom.nix { };
          image = pkgs.callPackage ./nix/image.nix { inherit weather sbom; };
          image-all-codecs = image.override {
            weather = weather-all-codecs;
            tag = "all-codecs";
          };
          image-stunnel = pkgs.callPackage ./nix/stunnel.nix { };
          default = image;
        })
        // forDarwin (pkgs: self.packages.aarch64-linux);

      checks = forLinux (
        pkgs:
        pkgs.callPackages ./nix/checks.nix {
          packages = self.packages.${pkgs.stdenv.hostPlatform.system};
          opentofu = pkgs.callPackage ./nix/opentofu.nix { };
        }
      );

      devShells = forSystems (linux ++ darwin) (pkgs: {
        default = pkgs.callPackage ./nix/shell.nix {
          inherit nixpkgs;
          opentofu = pkgs.callPackage ./nix/opentofu.nix { };
        };
      });

      apps = forLinux (
        pkgs:
        import ./nix/apps.nix {
          inherit pkgs;
          inherit (self.packages.${pkgs.stdenv.hostPlatform.system}) weather;
        }
      );

      formatter = forSystems (linux ++ darwin) (pkgs: pkgs.nixfmt-tree);
    };
}

{
  description = "Realtime weather averages from Kafka to PostgreSQL: one static binary and its image";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      forEachSystem =
        f: lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = forEachSystem (pkgs: rec {
        weather = pkgs.callPackage ./nix/package.nix { };
        image = pkgs.callPackage ./nix/image.nix { inherit weather; };
        default = image;
      });

      checks = forEachSystem (
        pkgs:
        pkgs.callPackages ./nix/checks.nix {
          inherit (self.packages.${pkgs.stdenv.hostPlatform.system}) weather image;
          opentofu = pkgs.callPackage ./nix/opentofu.nix { };
        }
      );

      devShells = forEachSystem (pkgs: {
        default = pkgs.callPackage ./nix/shell.nix {
          inherit nixpkgs;
          opentofu = pkgs.callPackage ./nix/opentofu.nix { };
        };
      });

      apps = forEachSystem (
        pkgs:
        import ./nix/apps.nix {
          inherit pkgs;
          inherit (self.packages.${pkgs.stdenv.hostPlatform.system}) weather;
        }
      );

      formatter = forEachSystem (pkgs: pkgs.nixfmt-tree);
    };
}

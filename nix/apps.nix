# `nix run . -- process …` and `nix run .#demo`.
{ pkgs, weather }:
let
  inherit (pkgs) lib;
  app = program: description: {
    type = "app";
    program = lib.getExe program;
    meta = { inherit description; };
  };
  # The demonstration starts a PostgreSQL of its own when it finds the server's programs.
  demo = pkgs.writeShellScriptBin "weather-demo" ''
    export PATH=${lib.makeBinPath [ pkgs.postgresql ]}:$PATH
    exec ${lib.getExe weather} demo "$@"
  '';
in
{
  default = app weather "Average weather readings from Kafka into PostgreSQL";
  demo = app demo "Producer and processor on an embedded broker, to look at";
}

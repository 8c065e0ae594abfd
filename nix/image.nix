# The image, as the tarball that `docker load` and `minikube image load` take: weather-pipeline:latest.
#
# One layer with one program, /bin/weather, and the world's time zones for --time-zone. No shell, no libc, no user database;
# all dates fixed, so that the same source gives the same digest everywhere.
{
  dockerTools,
  runCommand,
  tzdata,
  weather,
  sbom,
  tag ? "latest",
}:
let
  # Each zone once: not the copies that count leap seconds or go by POSIX alone, and no tables.
  zones = runCommand "zones" { } ''
    mkdir -p $out/share/zoneinfo
    cd ${tzdata}/share/zoneinfo
    for entry in *; do
      case $entry in
      posix | right | posixrules | localtime | leap* | *.tab | *.zi | *.list) ;;
      *) cp -rL --no-preserve=mode "$entry" $out/share/zoneinfo ;;
      esac
    done
  '';
in
dockerTools.buildImage {
  name = "weather-pipeline";
  inherit tag;
  copyToRoot = [
    weather
    zones
  ];
  config = {
    Entrypoint = [ "/bin/weather" ];
    Cmd = [ "--help" ];
    Env = [ "TZDIR=/share/zoneinfo" ];
    # Nobody in particular; Kubernetes wants a number to see that it is not root.
    User = "65532:65532";
    WorkingDir = "/";
    ExposedPorts."8080/tcp" = { };
    StopSignal = "SIGTERM";
    Labels = {
      "org.opencontainers.image.title" = "weather-pipeline";
      "org.opencontainers.image.description" = weather.meta.description;
      "org.opencontainers.image.version" = weather.version;
      "org.opencontainers.image.licenses" = weather.meta.license.spdxId;
      # Of the file that `nix build .#sbom` makes from the same source.
      "weather.sbom.sha256" = sbom.sha256;
    };
  };
}

# The image, as the tarball that `docker load` and `minikube image load` take: weather-pipeline:latest.
#
# One layer with one file, /bin/weather. No shell, no libc, no user database; all dates fixed, so that the same source
# gives the same digest everywhere.
{ dockerTools, weather }:
dockerTools.buildImage {
  name = "weather-pipeline";
  tag = "latest";
  copyToRoot = [ weather ];
  config = {
    Entrypoint = [ "/bin/weather" ];
    Cmd = [ "--help" ];
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
    };
  };
}

# The image of the TLS sidecar, weather-stunnel:latest: stunnel, the public certificate authorities, and nothing that could be
# written to.
{
  dockerTools,
  cacert,
  stunnel,
}:
dockerTools.buildLayeredImage {
  name = "weather-stunnel";
  tag = "latest";
  contents = [ cacert ];
  config = {
    Entrypoint = [ "${stunnel}/bin/stunnel" ];
    User = "65532:65532";
    Labels = {
      "org.opencontainers.image.title" = "weather-stunnel";
      "org.opencontainers.image.version" = stunnel.version;
    };
  };
}

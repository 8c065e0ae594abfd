# OpenTofu with the one provider that terraform/ needs, so that nothing is downloaded.
{ opentofu }: opentofu.withPlugins (plugins: [ plugins.hashicorp_kubernetes ])

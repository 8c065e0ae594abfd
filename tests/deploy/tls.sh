try_tls() { :; }

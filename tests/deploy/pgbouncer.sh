try_pgbouncer() { :; }

try_user() { :; }

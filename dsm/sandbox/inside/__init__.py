"""What runs inside the jail: standard library only, for nothing else of dsm is to be found there."""

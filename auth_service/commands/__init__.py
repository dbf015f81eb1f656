"""The commands `passbook person …` and `passbook device …`, on the same functions as the service."""

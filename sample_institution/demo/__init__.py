"""`passbook demo`: the whole of Passbook on one machine, shown to somebody who has five minutes."""

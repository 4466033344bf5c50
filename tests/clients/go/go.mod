module nilometer/tests/clients

go 1.24.0

require github.com/kurrent-io/KurrentDB-Client-Go v1.4.2

module github.com/taxi-rs/taxi/examples/go

go 1.24.0

require (
	github.com/google/uuid v1.6.0
	github.com/taxi-rs/taxi/clients/go v0.1.0
	google.golang.org/genproto/googleapis/rpc v0.0.0-20251202230838-ff82c1b0f217
	google.golang.org/grpc v1.79.3
	google.golang.org/protobuf v1.36.11
)

require (
	golang.org/x/net v0.48.0 // indirect
	golang.org/x/sys v0.39.0 // indirect
	golang.org/x/text v0.32.0 // indirect
	google.golang.org/genproto v0.0.0-20251202230838-ff82c1b0f217 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20251202230838-ff82c1b0f217 // indirect
)

// The generated code is not committed: clients/go is made by tools/clients.sh.
replace github.com/taxi-rs/taxi/clients/go => ../../clients/go

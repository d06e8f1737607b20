// SPDX-License-Identifier: Apache-2.0
//
// Calls a fleet, a request after the other for a while, by the Connect and Call of docs/client-library.md, which
// tests/interop/fleet_callers.py puts beside this file. Prints how many calls there were
// and how many seconds the slowest took; fails with the first that does.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"headlight/oip_go_client/inference"
)

var (
	addresses = flag.String("addresses", "", "HOST:PORT,HOST:PORT,... of the servers")
	duration  = flag.Duration("duration", time.Second, "for how long")
)

func main() {
	flag.Parse()
	fleet := manual.NewBuilderWithScheme("fleet") // as a name that has these addresses
	state := resolver.State{}
	for _, address := range strings.Split(*addresses, ",") {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address})
	}
	fleet.InitialState(state)
	connection, err := Connect("fleet:///headlight", grpc.WithResolvers(fleet))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	client := inference.NewGRPCInferenceServiceClient(connection)
	request := &inference.ModelInferRequest{
		ModelName:        "demo",
		Inputs:           []*inference.ModelInferRequest_InferInputTensor{{Name: "query", Datatype: "FP32", Shape: []int64{1, 1, 768}}},
		RawInputContents: [][]byte{make([]byte, 4*768)},
	}
	calls, slowest := 0, time.Duration(0)
	for end := time.Now().Add(*duration); time.Now().Before(end); calls++ {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		reply, err := Call(ctx, 500*time.Millisecond, 6, func(ctx context.Context) (*inference.ModelInferResponse, error) {
			return client.ModelInfer(ctx, request)
		})
		cancel()
		if err != nil {
			log.Fatalf("call %d: %v", calls, err)
		}
		if shape := fmt.Sprint(reply.Outputs[0].Shape); shape != "[1 1 768]" {
			log.Fatalf("call %d: shape %s, wanted [1 1 768]", calls, shape)
		}
		slowest = max(slowest, time.Since(begin))
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Println(calls, slowest.Seconds())
}

// SPDX-License-Identifier: Apache-2.0
//
// A client as others would write it in Go, of code generated from the protocol's files. It asks a server in every way, fails
// where an answer is not what the others were, and writes what it was answered to a file, for tests/interop/oip_go.py to
// compare.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionalpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"

	"headlight/oip_go_client/inference"
)

var (
	address = flag.String("address", "", "HOST:PORT of the server")
	model   = flag.String("model", "", "name of a model that takes embeddings")
	query   = flag.String("query", "", "file of f32 numbers, little-endian")
	shape   = flag.String("shape", "", "of the query, as 2,5,64")
	output  = flag.String("output", "", "file to write the output's bytes to")
)

func check(what string, err error) {
	if err != nil {
		log.Fatalf("%s: %v", what, err)
	}
}

func expect[T comparable](what string, got, wanted T) {
	if got != wanted {
		log.Fatalf("%s: got %v, wanted %v", what, got, wanted)
	}
}

// request has the query as raw bytes.
func request(dims []int64, data []byte) *inference.ModelInferRequest {
	return &inference.ModelInferRequest{
		ModelName:        *model,
		Inputs:           []*inference.ModelInferRequest_InferInputTensor{{Name: "query", Datatype: "FP32", Shape: dims}},
		RawInputContents: [][]byte{data},
	}
}

// typed has it number by number.
func typed(dims []int64, data []byte) *inference.ModelInferRequest {
	numbers := make([]float32, len(data)/4)
	for i := range numbers {
		numbers[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	made := request(dims, nil)
	made.RawInputContents = nil
	made.Inputs[0].Contents = &inference.InferTensorContents{Fp32Contents: numbers}
	return made
}

func infer(ctx context.Context, client inference.GRPCInferenceServiceClient, dims []int64, data []byte) []byte {
	reply, err := client.ModelInfer(ctx, request(dims, data))
	check("ModelInfer", err)
	expect("outputs", len(reply.Outputs), 1)
	expect("name", reply.Outputs[0].Name, "output")
	expect("datatype", reply.Outputs[0].Datatype, "FP32")
	expect("shape", fmt.Sprint(reply.Outputs[0].Shape), fmt.Sprint(dims))
	again, err := client.ModelInfer(ctx, typed(dims, data))
	check("ModelInfer with typed contents", err)
	expect("the same bits", bytes.Equal(again.RawOutputContents[0], reply.RawOutputContents[0]), true)
	return reply.RawOutputContents[0]
}

// stream sends requests and reads all replies, which come in their order; one is refused on the way.
func stream(ctx context.Context, client inference.GRPCInferenceServiceClient, dims []int64, data, wanted []byte) {
	const count, bad = 12, 5
	call, err := client.ModelStreamInfer(ctx)
	check("ModelStreamInfer", err)
	for i := range count {
		sent := request(dims, data)
		sent.Id = strconv.Itoa(i)
		if i == bad {
			sent.ModelName = "absent"
		}
		check("Send", call.Send(sent))
	}
	check("CloseSend", call.CloseSend())
	for i := range count {
		reply, err := call.Recv()
		check("Recv", err)
		expect("id", reply.InferResponse.GetId(), strconv.Itoa(i))
		if i == bad {
			expect("error of an unknown model", strings.Contains(reply.ErrorMessage, "absent"), true)
			continue
		}
		expect("error", reply.ErrorMessage, "")
		expect("the same bits", bytes.Equal(reply.InferResponse.RawOutputContents[0], wanted), true)
	}
	_, err = call.Recv()
	expect("end", err, io.EOF)
}

func refusals(ctx context.Context, client inference.GRPCInferenceServiceClient, dims []int64, data []byte) {
	absent := request(dims, data)
	absent.ModelName = "absent"
	_, err := client.ModelInfer(ctx, absent)
	expect("an unknown model", status.Code(err), codes.NotFound)
	_, err = client.ModelInfer(ctx, request(dims, data[4:]))
	expect("too few bytes", status.Code(err), codes.InvalidArgument)
	short, cancel := context.WithTimeout(ctx, time.Microsecond)
	defer cancel()
	_, err = client.ModelInfer(short, request(dims, data))
	expect("a deadline", status.Code(err), codes.DeadlineExceeded)
	_, err = client.CudaSharedMemoryStatus(ctx, &inference.CudaSharedMemoryStatusRequest{})
	expect("cuda", status.Code(err), codes.Unimplemented)
}

func healthy(ctx context.Context, connection *grpc.ClientConn) {
	client := health.NewHealthClient(connection)
	for _, service := range []string{"", "inference.GRPCInferenceService"} {
		reply, err := client.Check(ctx, &health.HealthCheckRequest{Service: service})
		check("Check of "+service, err)
		expect("Check of "+service, reply.Status, health.HealthCheckResponse_SERVING)
		watch, err := client.Watch(ctx, &health.HealthCheckRequest{Service: service})
		check("Watch of "+service, err)
		first, err := watch.Recv()
		check("Watch of "+service, err)
		expect("Watch of "+service, first.Status, health.HealthCheckResponse_SERVING)
	}
}

func reflected(ctx context.Context, connection *grpc.ClientConn) {
	const service = "inference.GRPCInferenceService"
	now, err := reflection.NewServerReflectionClient(connection).ServerReflectionInfo(ctx)
	check("reflection v1", err)
	check("reflection v1", now.Send(&reflection.ServerReflectionRequest{
		MessageRequest: &reflection.ServerReflectionRequest_ListServices{}}))
	listed, err := now.Recv()
	check("reflection v1", err)
	expect("listed by reflection v1", slices.ContainsFunc(listed.GetListServicesResponse().GetService(),
		func(one *reflection.ServiceResponse) bool { return one.Name == service }), true)

	before, err := reflectionalpha.NewServerReflectionClient(connection).ServerReflectionInfo(ctx)
	check("reflection v1alpha", err)
	check("reflection v1alpha", before.Send(&reflectionalpha.ServerReflectionRequest{
		MessageRequest: &reflectionalpha.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service}}))
	described, err := before.Recv()
	check("reflection v1alpha", err)
	expect("files of reflection v1alpha", len(described.GetFileDescriptorResponse().GetFileDescriptorProto()) > 0, true)
}

func main() {
	flag.Parse()
	log.SetFlags(0)
	data, err := os.ReadFile(*query)
	check("--query", err)
	var dims []int64
	for _, text := range strings.Split(*shape, ",") {
		dim, err := strconv.ParseInt(text, 10, 64)
		check("--shape", err)
		dims = append(dims, dim)
	}
	connection, err := grpc.NewClient(*address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check("--address", err)
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	client := inference.NewGRPCInferenceServiceClient(connection)
	live, err := client.ServerLive(ctx, &inference.ServerLiveRequest{})
	check("ServerLive", err)
	expect("live", live.Live, true)
	ready, err := client.ModelReady(ctx, &inference.ModelReadyRequest{Name: *model})
	check("ModelReady", err)
	expect("ready", ready.Ready, true)
	wanted := infer(ctx, client, dims, data)
	stream(ctx, client, dims, data, wanted)
	refusals(ctx, client, dims, data)
	healthy(ctx, connection)
	reflected(ctx, connection)
	check("--output", os.WriteFile(*output, wanted, 0o600))
	fmt.Println("ok")
}

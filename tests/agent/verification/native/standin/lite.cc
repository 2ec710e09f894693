// A stand-in for Paddle-Lite, with its C++ interface and nothing behind it.  It computes no model: it reads a text file that
// says which inputs and outputs there are and what goes wrong, and copies inputs to outputs.
//
//   version TEXT                 what GetVersion gives; "version" alone: nothing
//   input NAME                   in the order of the positions
//   output NAME copy N           input N as it is, its LoD too
//   output NAME twice N          input N (float32) times two
//   output NAME KIND             KIND: none (no data), strange (an unknown type), huge, negative (shapes that cannot be)
//   on PLACE WHAT                PLACE: load, run, input, names; WHAT: throw, abort, segv
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "interface.h"

namespace paddle {
namespace lite {

using lite_api::PrecisionType;

struct Tensor {
  lite_api::shape_t dims;
  lite_api::lod_t lod;
  PrecisionType precision{PrecisionType::kUnk};
  std::vector<char> data;
  bool set{false};

  size_t count() const {
    size_t count = 1;
    for (auto dim : dims) count *= static_cast<size_t>(dim);
    return count;
  }
};

struct Output {
  std::string name, kind;
  size_t from{0};
};

static Tensor& of(void* raw) { return *static_cast<Tensor*>(raw); }

class LightPredictorImpl : public lite_api::PaddlePredictor {
 public:
  explicit LightPredictorImpl(const std::string& path);
  ~LightPredictorImpl() override { std::fprintf(stderr, "standin: predictor destroyed\n"); }

#ifdef STANDIN_SHIFTED
  void NewInThisVersion() override {}
#endif
  std::unique_ptr<lite_api::Tensor> GetInput(int i) override {
    fail("input");
    return std::unique_ptr<lite_api::Tensor>(new lite_api::Tensor(&inputs_.at(i)));
  }
  std::unique_ptr<const lite_api::Tensor> GetOutput(int i) const override {
    return std::unique_ptr<const lite_api::Tensor>(new lite_api::Tensor(const_cast<Tensor*>(&results_.at(i))));
  }
  void Run() override;
  std::shared_ptr<PaddlePredictor> Clone() override { return nullptr; }
  std::shared_ptr<PaddlePredictor> Clone(const std::vector<std::string>&) override { return nullptr; }
  std::string GetVersion() const override { return version_; }
  std::vector<std::string> GetInputNames() override {
    fail("names");
    return input_names_;
  }
  std::vector<std::string> GetOutputNames() override {
    std::vector<std::string> names;
    for (const auto& output : outputs_) names.push_back(output.name);
    return names;
  }
  std::vector<std::string> GetParamNames() override { return {}; }
  bool TryShrinkMemory() override {
    for (auto& result : results_) result = Tensor();
    return true;
  }
  std::unique_ptr<lite_api::Tensor> GetInputByName(const std::string&) override { return nullptr; }

 private:
  void fail(const std::string& place) const;

  std::string version_;
  std::vector<std::string> input_names_;
  std::vector<Output> outputs_;
  std::vector<Tensor> inputs_, results_;
  std::map<std::string, std::string> failures_;
};

LightPredictorImpl::LightPredictorImpl(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("standin: no model at " + path);
  std::string line, word;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    words >> word;
    if (word == "version") {
      words >> version_;
    } else if (word == "input") {
      words >> word;
      input_names_.push_back(word);
    } else if (word == "output") {
      Output output;
      words >> output.name >> output.kind >> output.from;
      outputs_.push_back(output);
    } else if (word == "on") {
      std::string place, what;
      words >> place >> what;
      failures_[place] = what;
    }
  }
  inputs_.resize(input_names_.size());
  results_.resize(outputs_.size());
  fail("load");
}

void LightPredictorImpl::fail(const std::string& place) const {
  auto found = failures_.find(place);
  if (found == failures_.end()) return;
  if (found->second == "throw") throw std::runtime_error("standin: told to throw at " + place);
  if (found->second == "segv") raise(SIGSEGV);
  std::fprintf(stderr, "standin: Check failed: told to abort at %s\n", place.c_str());
  std::abort();
}

void LightPredictorImpl::Run() {
  fail("run");
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const Output& output = outputs_[i];
    Tensor& result = results_[i];
    result = Tensor();
    if (output.kind == "none") continue;
    result.set = true;
    result.precision = PrecisionType::kFloat;
    if (output.kind == "strange") result.precision = static_cast<PrecisionType>(77);
    if (output.kind == "huge") result.dims = {1 << 20, 1 << 20, 1 << 20};
    if (output.kind == "negative") result.dims = {2, -3};
    if (output.kind == "copy" || output.kind == "twice" || output.kind == "head") result = inputs_.at(output.from);
    if (output.kind == "head") {  // two items, as of a model of two classes
      result.dims = {1, 2};
      result.data.resize(2 * sizeof(float));
    }
    if (output.kind == "twice") {
      float* items = reinterpret_cast<float*>(result.data.data());
      for (size_t at = 0; at < result.count(); ++at) items[at] *= 2;
    }
  }
}

}  // namespace lite

namespace lite_api {

Tensor::Tensor(void* raw) : raw_(raw) {}
void Tensor::Resize(const shape_t& shape) { lite::of(raw_).dims = shape; }
shape_t Tensor::shape() const { return lite::of(raw_).dims; }
#ifndef STANDIN_WITHOUT_PRECISION
PrecisionType Tensor::precision() const {
  if (lite::of(raw_).precision == PrecisionType::kUnk) std::abort();  // as Paddle-Lite does
  return lite::of(raw_).precision;
}
#endif
lod_t Tensor::lod() const { return lite::of(raw_).lod; }
void Tensor::SetLoD(const lod_t& lod) { lite::of(raw_).lod = lod; }
bool Tensor::IsInitialized() const { return lite::of(raw_).set; }

template <typename T> const T* Tensor::data() const { return reinterpret_cast<const T*>(lite::of(raw_).data.data()); }

#ifdef STANDIN_GARBLES
static char garbled(char byte) { return byte ^ 1; }
#endif

template <typename T> T* prepare(lite::Tensor& tensor, PrecisionType precision) {
  tensor.precision = precision;
  tensor.set = true;
  tensor.data.resize(tensor.count() * sizeof(T));
#ifdef STANDIN_GARBLES
  static std::vector<char> elsewhere;  // what is written never reaches the tensor
  elsewhere.assign(tensor.data.size(), garbled(0));
  return reinterpret_cast<T*>(elsewhere.data());
#else
  return reinterpret_cast<T*>(tensor.data.data());
#endif
}

#define STANDIN_TYPE(T, PRECISION)                                              \
  template STANDIN_API const T* Tensor::data<T>() const;                        \
  template <> STANDIN_API T* Tensor::mutable_data<T>(TargetType) const {        \
    return prepare<T>(lite::of(raw_), PrecisionType::PRECISION);                \
  }
STANDIN_TYPE(float, kFloat)
STANDIN_TYPE(int8_t, kInt8)
STANDIN_TYPE(int32_t, kInt32)
STANDIN_TYPE(int64_t, kInt64)
STANDIN_TYPE(uint8_t, kUInt8)
#ifndef STANDIN_FEW_TYPES
STANDIN_TYPE(bool, kBool)
STANDIN_TYPE(int16_t, kInt16)
STANDIN_TYPE(double, kFP64)
#endif

#ifdef STANDIN_ARM
static const int kCores = 2;
#endif

ConfigBase::ConfigBase(PowerMode mode, int threads) {
#ifdef STANDIN_ARM
  std::fprintf(stderr, "standin: INFO %d cores, none of them small\n", kCores);
  threads_ = threads > kCores ? kCores : threads;
  mode_ = mode == LITE_POWER_LOW ? LITE_POWER_HIGH : mode;  // there are no small cores
#else
  (void)mode;
  (void)threads;
#endif
}
#ifndef STANDIN_ARM
void ConfigBase::set_x86_math_num_threads(int threads) { x86_threads_ = threads; }
int ConfigBase::x86_math_num_threads() const { return x86_threads_; }
#endif

bool IsOpenCLBackendValid(bool) {
#ifdef STANDIN_OPENCL
  return true;
#else
  return false;
#endif
}
void ConfigBase::set_opencl_binary_path_name(const std::string& path, const std::string& name) {
  opencl_path_ = path;
  opencl_name_ = name;
  std::fprintf(stderr, "standin: OpenCL kernels in %s as %s\n", path.c_str(), name.c_str());
}
void ConfigBase::set_opencl_tune(CLTuneMode mode, const std::string& path, const std::string& name, size_t lws_repeats) {
  std::fprintf(stderr, "standin: OpenCL tuning %d in '%s' as '%s', %zu repeats\n", static_cast<int>(mode), path.c_str(),
               name.c_str(), lws_repeats);
}
void ConfigBase::set_opencl_precision(CLPrecisionType precision) {
  std::fprintf(stderr, "standin: OpenCL precision %d\n", static_cast<int>(precision));
}
#ifdef STANDIN_NNADAPTER
bool ConfigBase::check_nnadapter_device_name(const std::string& device_name) { return device_name == "rockchip_npu"; }
void ConfigBase::set_nnadapter_device_names(const std::vector<std::string>& names) { devices_ = names; }
const std::vector<std::string>& ConfigBase::nnadapter_device_names() const { return devices_; }
void ConfigBase::set_nnadapter_context_properties(const std::string& properties) { properties_ = properties; }
const std::string& ConfigBase::nnadapter_context_properties() const { return properties_; }
void ConfigBase::set_nnadapter_model_cache_dir(const std::string& folder) { cache_dir_ = folder; }
const std::string& ConfigBase::nnadapter_model_cache_dir() const { return cache_dir_; }
#else
bool ConfigBase::check_nnadapter_device_name(const std::string&) { return false; }
#endif

#if STANDIN_LAYOUT == 300
void MobileConfig::set_model_from_file(const std::string& path) { file_ = std::make_shared<std::string>(path); }
std::string MobileConfig::file() const { return *file_; }
#else
void MobileConfig::set_model_from_file(const std::string& path) { file_ = path; }
std::string MobileConfig::file() const { return file_; }
#endif

bool MobileConfig::intact() const {
  bool intact = !from_memory_ && model_buffer_.empty() && param_buffer_.empty();
#if STANDIN_LAYOUT >= 212
  intact = intact && precision_mode_ == 0;
#endif
#if STANDIN_LAYOUT >= 213
  intact = intact && buffer_ == nullptr && buffer_size_ == 0;
#endif
  return intact;
}

template <> STANDIN_API std::shared_ptr<PaddlePredictor> CreatePaddlePredictor(const MobileConfig& config) {
  if (!config.intact()) {
    std::fprintf(stderr, "standin: the configuration is not as its constructor makes it\n");
    std::abort();
  }
  std::fprintf(stderr, "standin: threads %d mode %d\n", config.threads(), static_cast<int>(config.power_mode()));
#ifdef STANDIN_NO_PREDICTOR
  return nullptr;
#else
  return std::make_shared<lite::LightPredictorImpl>(config.file());
#endif
}

}  // namespace lite_api
}  // namespace paddle

// The part of Paddle-Lite's C++ interface that litefleet's native engine uses, declared anew for a stand-in.
//
// This is not Paddle-Lite.  Names, types, and the order of the virtual functions are those of paddle_api.h in 2.13, because
// they make the mangled names and the positions that are to be tested; the rest is ours.
//
// STANDIN_LAYOUT   210, 212, 213 (sizes of ConfigBase as in these versions, more or less) or 300 (an unknown version)
// STANDIN_ARM      the configuration takes threads and power mode, as builds for ARM do; else it has MKL's threads
// STANDIN_OPENCL   it says that OpenCL works
// STANDIN_NNADAPTER  it has the NNAdapter device rockchip_npu, and exports the setters that the real header has inline, as the
//                  wheels do
// STANDIN_SHIFTED  one more virtual function at the front: positions that are unknown
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#ifndef STANDIN_LAYOUT
#define STANDIN_LAYOUT 213
#endif
#define STANDIN_API __attribute__((visibility("default")))

namespace paddle {
namespace lite_api {

enum class TargetType : int { kUnk = 0, kHost = 1 };
enum class PrecisionType : int {
  kUnk = 0, kFloat = 1, kInt8 = 2, kInt32 = 3, kAny = 4, kFP16 = 5, kBool = 6, kInt64 = 7, kInt16 = 8, kUInt8 = 9, kFP64 = 10
};
enum PowerMode { LITE_POWER_HIGH = 0, LITE_POWER_LOW = 1, LITE_POWER_FULL = 2, LITE_POWER_NO_BIND = 3 };
enum CLTuneMode { CL_TUNE_NONE = 0, CL_TUNE_RAPID = 1, CL_TUNE_NORMAL = 2, CL_TUNE_EXHAUSTIVE = 3 };
enum CLPrecisionType { CL_PRECISION_AUTO = 0, CL_PRECISION_FP32 = 1, CL_PRECISION_FP16 = 2 };
STANDIN_API bool IsOpenCLBackendValid(bool check_fp16_valid = false);
enum class LiteModelType { kProtobuf = 0 };
using shape_t = std::vector<int64_t>;
using lod_t = std::vector<std::vector<uint64_t>>;

struct STANDIN_API Tensor {
  explicit Tensor(void* raw);
  void Resize(const shape_t& shape);
  template <typename T> const T* data() const;
  template <typename T> T* mutable_data(TargetType target = TargetType::kHost) const;
  shape_t shape() const;
  PrecisionType precision() const;
  lod_t lod() const;
  void SetLoD(const lod_t& lod);
  bool IsInitialized() const;

 private:
  void* raw_;
};

class STANDIN_API PaddlePredictor {
 public:
#ifdef STANDIN_SHIFTED
  virtual void NewInThisVersion() = 0;
#endif
  virtual std::unique_ptr<Tensor> GetInput(int i) = 0;
  virtual std::unique_ptr<const Tensor> GetOutput(int i) const = 0;
  virtual void Run() = 0;
  virtual std::shared_ptr<PaddlePredictor> Clone() = 0;
  virtual std::shared_ptr<PaddlePredictor> Clone(const std::vector<std::string>& names) = 0;
  virtual std::string GetVersion() const = 0;
  virtual std::vector<std::string> GetInputNames() = 0;
  virtual std::vector<std::string> GetOutputNames() = 0;
  virtual std::vector<std::string> GetParamNames() = 0;
  virtual bool TryShrinkMemory() = 0;
  virtual std::unique_ptr<Tensor> GetInputByName(const std::string& name) = 0;
  virtual ~PaddlePredictor() = default;
};

class STANDIN_API ConfigBase {
  std::string model_dir_;
  int threads_{1};
  PowerMode mode_{LITE_POWER_NO_BIND};
  std::string opencl_path_, opencl_name_, cache_dir_, properties_, metal_path_;
  std::vector<std::string> devices_;
  std::map<std::string, std::vector<char>> buffers_;
  int device_{0}, x86_threads_{1};
#if STANDIN_LAYOUT == 210
  bool flag_{false};  // what a derived class adds begins in the padding after it
#else
  void* metal_device_{nullptr};
  std::vector<std::string> discarded_;
#endif
#if STANDIN_LAYOUT >= 213
  void* allocator_[3] = {nullptr, nullptr, nullptr};
#endif

 public:
  explicit ConfigBase(PowerMode mode = LITE_POWER_NO_BIND, int threads = 1);
  int threads() const { return threads_; }
  PowerMode power_mode() const { return mode_; }
  void set_opencl_binary_path_name(const std::string& path, const std::string& name);
  void set_opencl_tune(CLTuneMode mode, const std::string& path, const std::string& name, size_t lws_repeats);
  void set_opencl_precision(CLPrecisionType precision);
  bool check_nnadapter_device_name(const std::string& device_name);
#ifdef STANDIN_NNADAPTER
  void set_nnadapter_device_names(const std::vector<std::string>& names);
  const std::vector<std::string>& nnadapter_device_names() const;
  void set_nnadapter_context_properties(const std::string& properties);
  const std::string& nnadapter_context_properties() const;
  void set_nnadapter_model_cache_dir(const std::string& folder);
  const std::string& nnadapter_model_cache_dir() const;
#endif
#ifndef STANDIN_ARM
  void set_x86_math_num_threads(int threads);
  int x86_math_num_threads() const;
#endif
};

class STANDIN_API MobileConfig : public ConfigBase {
  bool from_memory_{false};
#if STANDIN_LAYOUT >= 212
  int precision_mode_{0};
#endif
#if STANDIN_LAYOUT >= 213
  const char* buffer_{nullptr};
  size_t buffer_size_{0};
#endif
#if STANDIN_LAYOUT == 300
  std::shared_ptr<std::string> file_;
#else
  std::string file_;
#endif
  std::string model_buffer_, param_buffer_;

 public:
  void set_model_from_file(const std::string& path);
  std::string file() const;
  bool intact() const;  // every member that the caller's hand-made object does not set has its first value
};

template <typename ConfigT>
STANDIN_API std::shared_ptr<PaddlePredictor> CreatePaddlePredictor(const ConfigT&);

}  // namespace lite_api
}  // namespace paddle

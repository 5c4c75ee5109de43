// Operations of the user's own: a forward that records nothing inside, and a backward that the engine calls.

#include <mutex>
#include <set>

#include "autograd/record.h"
#include "core/tensor_make.h"

namespace tensorgrad {
namespace {

// Node keeps a borrowed name; custom names live as long as the program.
const char* lasting(const std::string& name) {
  static std::mutex mutex;
  static auto* names = new std::set<std::string>;
  const std::lock_guard lock(mutex);
  return names->insert(name).first->c_str();
}

class CustomNode final : public Node {
 public:
  CustomNode(const std::string& name, const std::vector<Tensor>& inputs, BackwardFunction backward)
      : Node(lasting(name)), backward_(std::move(backward)), list_(inputs.size()) {
    for (size_t i = 0; i < inputs.size(); ++i) list_[i] = gradient_edge(inputs[i]);
    set_edges(list_.data(), static_cast<uint32_t>(list_.size()));
  }

  void keep(FunctionContext context, std::vector<Saved> saved) {
    context_ = std::move(context);
    saved_ = std::move(saved);
  }

  void apply(const Tensor* in, Tensor* out, bool keep) override {
    if (freed_) detail::raise_freed(op_name());
    const Context c(*this);
    std::vector<Tensor> gradients(num_outputs());
    for (uint32_t i = 0; i < num_outputs(); ++i) {
      gradients[i] = in[i].defined() || !context_.materialize_grads ? in[i] : c.zeros_for(i);
    }
    FunctionContext context = context_;
    context.saved.reserve(saved_.size());
    for (const Saved& s : saved_) context.saved.push_back(s(c));
    std::vector<Tensor> result = backward_(context, gradients);
    for (size_t i = num_edges(); i < result.size(); ++i) check_count(!result[i].defined(), result.size());
    check_count(result.size() >= num_edges(), result.size());
    for (uint32_t i = 0; i < num_edges(); ++i) out[i] = std::move(result[i]);
    if (!keep) release_saved();
  }

  void release_saved() override {
    if (!saved_.empty()) freed_ = true;
    saved_.clear();
  }

 private:
  void check_count(bool right, size_t got) const {
    TENSORGRAD_CHECK(right, AutogradError, "function ", name(), " returned an incorrect number of gradients (expected ",
                     num_edges(), ", got ", got, ")");
  }
  BackwardFunction backward_;
  FunctionContext context_;
  std::vector<Saved> saved_;
  std::vector<Edge> list_;
  bool freed_ = false;
};

bool among(const Tensor& t, const std::vector<Tensor>& list, size_t* where = nullptr) {
  for (size_t i = 0; i < list.size(); ++i) {
    if (!t.is_same(list[i])) continue;
    if (where) *where = i;
    return true;
  }
  return false;
}

// Gives every output its place in the node: in place for a changed input, an alias for an input that is handed through.
void connect(std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs, const FunctionContext& context,
             const NodePtr& node, const char* name) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    Tensor& out = outputs[i];
    TENSORGRAD_CHECK(out.defined(), ValueError, name, ": output ", i, " of the forward is undefined");
    size_t which = 0;
    const bool is_input = among(out, inputs, &which);
    if (among(out, context.non_differentiable)) {
      node->add_output(out);
      if (is_input) out = detail::make_alias(out);
    } else if (is_input && among(out, context.dirty)) {
      TENSORGRAD_CHECK(!out.is_view() || (which == 0 && i == 0 && outputs.size() == 1), AutogradError, name,
                       ": a view that is changed in place must be the first input and the only output");
      finish_inplace(out, node);
    } else {
      if (is_input) out = detail::make_alias(out);
      attach(out, node);
    }
  }
}

}  // namespace

std::vector<Tensor> custom_function(std::string name, const std::vector<Tensor>& inputs, const ForwardFunction& forward,
                                    BackwardFunction backward) {
  FunctionContext context;
  for (const Tensor& t : inputs) context.needs_input_grad.push_back(grad_mode() && needs_grad(t));
  const bool wanted = should_record_any(inputs);
  std::vector<Tensor> outputs;
  {
    const NoGradGuard guard;
    outputs = forward(context, inputs);
  }
  for (const Tensor& t : context.dirty) {
    TENSORGRAD_CHECK(among(t, inputs), AutogradError, name,
                     ": a tensor marked as dirty is not an input of the forward");
    TENSORGRAD_CHECK(
        among(t, outputs), AutogradError, name,
        ": Some elements marked as dirty during the forward method were not returned as output. The inputs "
        "that are modified inplace must all be outputs of the Function.");
    check_inplace(name.c_str(), t);
  }
  if (!wanted) return outputs;

  auto* custom = new CustomNode(name, inputs, std::move(backward));
  const NodePtr node = NodePtr::adopt(custom);
  const std::vector<Tensor> made = outputs;  // as forward returned them, to recognise what it saved
  connect(outputs, inputs, context, node, name.c_str());
  std::vector<Saved> saved;
  saved.reserve(context.to_save.size());
  for (const Tensor& t : context.to_save) {
    size_t nr = 0;
    const bool is_output = t.defined() && among(t, made, &nr) && (!among(t, inputs) || among(t, context.dirty));
    if (!is_output) {
      saved.push_back(Saved(t));
    } else if (among(t, context.non_differentiable)) {
      saved.push_back(Saved(t.detach()));
    } else {
      saved.push_back(Saved::output(t, static_cast<uint32_t>(nr)));
    }
  }
  context.to_save.clear();
  context.dirty.clear();
  context.non_differentiable.clear();
  custom->keep(std::move(context), std::move(saved));
  return outputs;
}

}  // namespace tensorgrad

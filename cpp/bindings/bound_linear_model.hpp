// A linear model as Python holds it.
#pragma once

#include <string>
#include <utility>

#include "array.hpp"
#include "cgc/linear_model.hpp"

namespace cgc::bindings {

inline Loss loss_of(const std::string& name) {
    if (name == "squares") return Loss::squares;
    if (name == "logistic") return Loss::logistic;
    if (name == "softmax") return Loss::softmax;
    throw std::invalid_argument("loss: expected one of logistic, softmax, squares; got " + name);
}

// The model and the arrays that it views: nothing is copied, and nothing it reads can go away.
class BoundLinearModel {
  public:
    BoundLinearModel(const std::string& loss, Index classes, Array<double> features, Array<double> targets,
                     const Array<Index>& held)
        : features_(std::move(features)),
          targets_(std::move(targets)),
          model_(loss_of(loss), classes, matrix(features_, "features"), vector(targets_, "targets"),
                 matrix(held, "held")) {}

    void begin(Array<double> theta) {
        model_.begin(vector(theta, "theta"));
        theta_ = std::move(theta);
    }

    void forward(const Array<Index>& ranges) {
        const auto view = matrix(ranges, "ranges");
        const py::gil_scoped_release release;  // the arrays are held by the caller's frame and by us
        model_.forward(view);
    }

    void derivatives(Index start, Index stop, const Array<Index>& ranges, const Array<double>& coefficients,
                     Array<double> out) {
        derivatives_part(start, stop, 0, stop - start, ranges, coefficients, std::move(out));
    }

    void derivatives_part(Index start, Index stop, Index begin, Index end, const Array<Index>& ranges,
                          const Array<double>& coefficients, Array<double> out) {
        const auto range_view = matrix(ranges, "ranges");
        const auto coefficient_view = vector(coefficients, "coefficients");
        const auto out_view = writable_vector(out, "out");
        const py::gil_scoped_release release;
        model_.derivatives_part(start, stop, begin, end, range_view, coefficient_view, out_view);
    }

    double value(const Array<Index>& ranges, const Array<double>& coefficients) {
        const auto range_view = matrix(ranges, "ranges");
        const auto coefficient_view = vector(coefficients, "coefficients");
        const py::gil_scoped_release release;
        return model_.value(range_view, coefficient_view);
    }

    LinearModel& model() { return model_; }

  private:
    Array<double> features_, targets_, theta_;
    LinearModel model_;
};

}  // namespace cgc::bindings

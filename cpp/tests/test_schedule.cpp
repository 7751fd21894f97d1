// Costs of visits: the union of touched samples, by hand.
#include <stdexcept>
#include <vector>

#include "cgc/schedule.hpp"
#include "check.hpp"

using namespace cgc;

namespace {

// One worker walks three cells, 10, 1 and 2 coordinates wide: samples [0.25, 0.5), then a row that wraps
// around, [0.75, 1) and [0, 0.25), then everything.
struct Example {
    std::vector<Index> offsets{0, 3}, cells{0, 1, 2}, rows{0, 3, 0}, interval_offsets{0, 1, 3, 4};
    std::vector<double> fractions{0.25, 0.5, 1.0}, lows{0.25, 0.75, 0.0, 0.0}, highs{0.5, 1.0, 0.25, 1.0};
    std::vector<Index> widths{10, 1, 2}, ranges{0, 1, 2}, required_rows{1, 1, 1};

    Walks walks() const { return {offsets, cells, rows, fractions, interval_offsets, lows, highs}; }
    CellTable table() const { return {widths, ranges, required_rows}; }
};

void test_a_sample_is_forwarded_once() {
    const Example example;
    const CompiledSchedule schedule(example.walks(), example.table());
    std::vector<double> cycles(3);
    schedule.arrival_cycles({8.0, 3.0, 0.0}, cycles);
    CHECK(cycles[0] == 8 * 0.25 * 3 * 10);
    CHECK(cycles[1] == cycles[0] + 8 * 0.5 * 3 * 1);
    CHECK(cycles[2] == cycles[1] + 8 * 1.0 * 3 * 2);

    std::vector<double> with_forward(3);
    schedule.arrival_cycles({8.0, 3.0, 100.0}, with_forward);
    CHECK(with_forward[0] == cycles[0] + 100 * 8 * 0.25);
    CHECK(with_forward[1] == cycles[1] + 100 * 8 * 0.75);
    CHECK(with_forward[2] == cycles[2] + 100 * 8 * 1.0);
}

void test_touched_is_cleared() {
    const Example example;
    const CompiledSchedule schedule(example.walks(), example.table());
    CompiledSchedule::Touched touched(schedule);
    CHECK(touched.touch(2) == 1.0);
    CHECK(touched.touch(0) == 0.0);
    touched.clear();
    CHECK(touched.touch(0) == 0.25);
    CHECK(touched.touch(2) == 0.75);
}

void test_samples_are_touched_in_part() {
    const Example example;
    const CompiledSchedule schedule(example.walks(), example.table());
    CompiledSchedule::Touched touched(schedule);
    CHECK(touched.untouched(2) == 1.0);
    CHECK(touched.touch(0, 0.125) == 0.125);
    CHECK(touched.untouched(0) == 0.125);
    CHECK(touched.untouched(2) == 0.875);
    CHECK(touched.touch(2, 0.5) == 0.5);
    CHECK(touched.touch(2) == 0.375);
    CHECK(touched.untouched(2) == 0.0);
}

void test_no_work_takes_no_time() {
    CHECK(seconds(INFINITY, 0.0) == 0.0);
    CHECK(seconds(INFINITY, 1e-300) == INFINITY);
    CHECK(seconds(0.5, 4.0) == 2.0);
}

void test_contradictions_are_refused() {
    Example unknown_cell;
    unknown_cell.cells[1] = 3;
    CHECK_THROWS(CompiledSchedule(unknown_cell.walks(), unknown_cell.table()), std::invalid_argument);
    Example short_offsets;
    short_offsets.offsets[1] = 2;
    CHECK_THROWS(CompiledSchedule(short_offsets.walks(), short_offsets.table()), std::invalid_argument);
    Example missing_row;
    missing_row.rows.pop_back();
    CHECK_THROWS(CompiledSchedule(missing_row.walks(), missing_row.table()), std::invalid_argument);
}

}  // namespace

int main() {
    test_a_sample_is_forwarded_once();
    test_touched_is_cleared();
    test_samples_are_touched_in_part();
    test_no_work_takes_no_time();
    test_contradictions_are_refused();
    return failures != 0;
}

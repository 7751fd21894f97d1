// Ordinary iterations under real concurrency: threads with walkers are the workers, the collector the master.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "cgc/collector.hpp"
#include "cgc/walker.hpp"
#include "check.hpp"

namespace {

using cgc::Index;

constexpr Index workers = 3, features = 40, samples = 6, blocks = 4, width = features / blocks;
constexpr std::int64_t for_ever = std::numeric_limits<std::int64_t>::max();

struct Pipe {
    int read = -1, write = -1;
    Pipe() {
        int ends[2];
        if (::pipe(ends) != 0) std::abort();
        read = ends[0];
        write = ends[1];
        ::fcntl(read, F_SETFL, O_NONBLOCK);
        ::fcntl(write, F_SETFL, O_NONBLOCK);
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    ~Pipe() {
        ::close(read);
        ::close(write);
    }
};

// Uncoded: worker w computes the samples [2 w, 2 w + 2) of every block; a slot is (block, worker).
struct Bench {
    static constexpr Index capacity = 2 * blocks + 2;
    std::vector<double> x = std::vector<double>(samples * features), y = std::vector<double>(samples);
    std::vector<double> thetas[2], payloads[workers], gradient = std::vector<double>(features);
    std::unique_ptr<Pipe> master = std::make_unique<Pipe>();
    std::vector<std::unique_ptr<Pipe>> wakes, orders;
    std::vector<int> wake_fds;
    std::vector<Index> offsets;  // of each payload in the memory of its worker, in bytes
    void* memory;

    Bench() {
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i * 7 % 11) - 5.0;
        for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<double>(i);
        for (auto& theta : thetas) theta.resize(features);
        for (auto& payload : payloads) payload.resize(blocks * workers * (width + 1));
        for (Index w = 0; w < workers; ++w) {
            wakes.push_back(std::make_unique<Pipe>());
            orders.push_back(std::make_unique<Pipe>());
            wake_fds.push_back(wakes.back()->write);
        }
        const std::size_t size = (cgc::Signal::bytes(workers, capacity) + 63) / 64 * 64;
        memory = std::aligned_alloc(64, size);
        for (std::size_t i = 0; i < size; ++i) static_cast<unsigned char*>(memory)[i] = 0;
    }
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;
    ~Bench() { std::free(memory); }

    cgc::CollectorLayout layout(cgc::View<const int> fds) {
        cgc::CollectorLayout found;
        offsets.clear();
        found.wake_fds = wake_fds;
        found.fds = fds;
        found.forget = 0.5;
        found.workers = workers;
        found.coordinates = features;
        for (Index b = 0; b < blocks; ++b) {
            found.block_bounds.insert(found.block_bounds.end(), {b * width, (b + 1) * width});
            for (Index w = 0; w < workers; ++w) {
                found.cells.push_back({b * width, (b + 1) * width, 1, 1, true, false, {b}});
                offsets.push_back(static_cast<Index>(sizeof(double)) * (b * workers + w) * (width + 1));
            }
        }
        for (auto& payload : payloads) {
            found.payloads.push_back(payload.data());
            found.byte_offsets.emplace_back(offsets);
        }
        found.thetas[0] = thetas[0].data();
        found.thetas[1] = thetas[1].data();
        return found;
    }

    void work(Index w) {
        cgc::Signal signal(memory, workers, capacity);
        const Index held[2] = {2 * w, 2 * w + 2};
        cgc::LinearModel model(cgc::Loss::squares, 1, {x.data() + 2 * w * features, 2, features, features},
                               {y.data() + 2 * w, 2}, {held, 1, 2, 2});
        std::vector<cgc::Stop> stops;
        for (Index b = 0; b < blocks; ++b) {
            const Index slot = b * workers + w;
            stops.push_back({static_cast<std::uint32_t>(slot),
                             b * width,
                             (b + 1) * width,
                             {held[0], held[1]},
                             {1.0},
                             payloads[w].data() + slot * (width + 1)});
        }
        const auto at = static_cast<std::size_t>(w);
        cgc::Walker walker(signal, cgc::SlicedWalk(model, std::move(stops), {1e-3, 5e-5}), w, thetas[0],
                           thetas[1], wakes[at]->read, orders[at]->read, master->write);
        CHECK(walker.serve(0, 0).why == cgc::Left::stopped);
    }

    double expected(const double* theta, Index l) const {
        double sum = 0.0;
        for (Index i = 0; i < samples; ++i) {
            double z = -y[static_cast<std::size_t>(i)];
            for (Index k = 0; k < features; ++k)
                z += x[static_cast<std::size_t>(i * features + k)] * theta[k];
            sum += z * x[static_cast<std::size_t>(i * features + l)];
        }
        return sum;
    }
};

// Integers all through, so that every order of summation gives the same.
void many_iterations() {
    Bench bench;
    std::vector<std::thread> threads;
    for (Index w = 0; w < workers; ++w) threads.emplace_back([&bench, w] { bench.work(w); });
    cgc::Signal signal(bench.memory, workers, Bench::capacity);
    const int fds[1] = {bench.master->read};
    cgc::Collector collector(signal, bench.layout(fds));
    std::vector<double> theta(features);
    for (std::uint64_t i = 1; i <= 1000; ++i) {
        for (std::size_t k = 0; k < theta.size(); ++k) theta[k] = static_cast<double>((i + k) % 5);
        CHECK(collector.all_well(i - 1, 60'000'000'000));
        CHECK(collector.begin(i, theta, bench.gradient, false));
        const bool each_block = i % 2 == 0;
        std::size_t told = 0;
        for (;;) {
            const cgc::Collected why = collector.collect(for_ever, each_block);
            if (why == cgc::Collected::done) break;
            CHECK(each_block && why == cgc::Collected::blocks);
            CHECK(collector.completed().size() > told);
            told = collector.completed().size();
        }
        collector.end();
        CHECK(collector.arrivals().size() == static_cast<std::size_t>(blocks * workers));
        for (Index l = 0; l < features; l += 13)
            CHECK(bench.gradient[static_cast<std::size_t>(l)] == bench.expected(theta.data(), l));
    }
    const std::vector<std::int64_t> ended = collector.take_ended();
    CHECK(ended.size() == 1000 * (2 + 2 * workers));
    for (std::size_t i = 0; i < ended.size(); i += 2 + 2 * workers) {
        CHECK(ended[i + 1] > 0);
        for (std::size_t w = 0; w < workers; ++w) {
            CHECK(ended[i + 2 + w] == blocks);
            CHECK(ended[i + 2 + workers + w] > ended[i]);
            CHECK(ended[i + 2 + workers + w] <= ended[i] + ended[i + 1]);
        }
    }
    CHECK(collector.take_ended().empty());
    signal.stop(bench.wake_fds);
    for (auto& thread : threads) thread.join();
    for (Index w = 0; w < workers; ++w) CHECK(signal.walks(w) == 1000);
}

// Without workers: arrivals by hand.
void comes_back() {
    Bench bench;
    Pipe sentinel;
    cgc::Signal signal(bench.memory, workers, Bench::capacity);
    const int fds[2] = {bench.master->read, sentinel.read};
    CHECK_THROWS(cgc::Collector(signal, bench.layout({})), std::invalid_argument);
    cgc::Collector collector(signal, bench.layout(fds));
    std::vector<double> theta(features, 1.0);
    // Nobody has been seen.
    CHECK(!collector.all_well(1, 1'000'000'000));
    theta.back() = std::numeric_limits<double>::infinity();
    CHECK(!collector.begin(1, theta, bench.gradient, false));
    CHECK(signal.published() == 0);
    CHECK(collector.iteration() == 0);
    theta.back() = 1.0;
    CHECK(collector.begin(1, theta, bench.gradient, false));
    CHECK(collector.collect(0, true) == cgc::Collected::late);
    std::thread other([&] {
        collector.interrupt();
        CHECK(::write(bench.master->write, "!", 1) == 1);
    });
    CHECK(collector.collect(for_ever, true) == cgc::Collected::interrupted);
    other.join();
    // A stale arrival changes nothing, one twice only once.
    const cgc::Arrival stale{7, 0, 1, 0, 0}, first{1, 0, 1, 0, 5};
    for (const cgc::Arrival& arrival : {stale, first, first}) CHECK(signal.push(0, arrival, false, -1));
    CHECK(collector.collect(0, true) == cgc::Collected::late);
    CHECK(collector.arrivals().size() == 3);
    CHECK(collector.decoded_ns()[0] > 0);
    CHECK(collector.contributors(0) == std::vector<Index>{0});
    // What is behind a payload that is not finite is left to others.
    CHECK(signal.push(1, {1, 1, 0, 0, 0}, false, -1));
    CHECK(signal.push(1, {1, 4, 1, 0, 0}, false, -1));
    CHECK(collector.collect(0, true) == cgc::Collected::unusual);
    CHECK(collector.arrivals().size() == 4);
    cgc::Arrival left;
    CHECK(signal.pop(1, left));
    CHECK(left.slot == 4);
    // Whoever goes on finds zeros where nothing was added: everywhere but in block 0, which waits for two
    // more.
    bench.payloads[0].assign(bench.payloads[0].size(), 3.0);
    bench.gradient.assign(features, 5.0);
    CHECK(collector.begin(2, theta, bench.gradient, false));
    CHECK(signal.push(0, {2, 0, 1, 0, 5}, false, -1));
    CHECK(collector.collect(0, true) == cgc::Collected::late);
    collector.leave();
    for (Index l = 0; l < features; ++l)
        CHECK(bench.gradient[static_cast<std::size_t>(l)] == (l < width ? 3.0 : 0.0));
    collector.end();
    const std::vector<std::int64_t> ended = collector.take_ended();
    CHECK(ended.size() == 2 + 2 * workers);
    CHECK(ended[2] == 1 && ended[3] == 0 && ended[2 + workers] == 5);
    // The next iteration begins anew; a sentinel fires.
    CHECK(collector.begin(3, theta, bench.gradient, false));
    CHECK(collector.arrivals().empty());
    CHECK(::write(sentinel.write, "!", 1) == 1);
    CHECK(collector.collect(for_ever, true) == cgc::Collected::unusual);
    CHECK_THROWS(collector.decode({}), std::logic_error);
}

// Who delivered, and of which iteration: also what is of an earlier one.
void says_who_was_heard() {
    Bench bench;
    cgc::Signal signal(bench.memory, workers, Bench::capacity);
    const std::vector<int> fds{bench.master->read};
    cgc::Collector collector(signal, bench.layout(fds));
    CHECK(collector.take_heard().empty());
    const std::vector<double> theta(features);
    CHECK(collector.begin(7, theta, bench.gradient, false));
    for (const Index worker : {0, 2}) {
        const cgc::Arrival arrival{worker == 0 ? 7u : 6u, static_cast<std::uint32_t>(worker), 1, 0, 0};
        CHECK(signal.push(worker, arrival, false, -1));
    }
    CHECK(collector.take_heard().empty());
    CHECK(collector.collect(0, false) == cgc::Collected::late);
    const std::vector<cgc::Heard> heard = collector.take_heard();
    CHECK(heard.size() == 2 && heard[0].worker == 0 && heard[0].iteration == 7);
    CHECK(heard[1].worker == 2 && heard[1].iteration == 6);
    CHECK((collector.delivered() == std::vector<std::int64_t>{1, 0, 0}));
    CHECK(collector.take_heard().empty());
    CHECK(collector.collect(0, false) == cgc::Collected::late);
    CHECK(collector.take_heard().empty());
}

}  // namespace

int main() {
    many_iterations();
    comes_back();
    says_who_was_heard();
    return failures != 0;
}

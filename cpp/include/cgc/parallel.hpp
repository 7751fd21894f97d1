// Loops over several threads, for callers that ask for them.
#pragma once

#include <algorithm>
#include <exception>
#include <thread>
#include <vector>

#include "cgc/types.hpp"

namespace cgc {

// work(begin, end) over pieces that make up [0, length), each of at least `grain` but for the last, on at
// most `threads` threads, this one included; 0: one a core. `work` must not throw. Where the system gives no
// more threads, this one does their pieces.
template <class Work>
void in_parallel(Index length, int threads, Index grain, const Work& work) {
    if (threads == 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    const Index pieces = std::clamp<Index>(length / grain, 1, std::max(1, threads));
    if (pieces == 1) return work(Index{0}, length);
    const Index step = (length / pieces + grain - 1) / grain * grain;
    std::vector<std::thread> others;
    others.reserve(static_cast<std::size_t>(pieces));
    Index begin = 0;
    try {
        for (; begin + step < length; begin += step)
            others.emplace_back([&work, begin, step] { work(begin, begin + step); });
    } catch (const std::exception&) {  // no thread for this piece
    }
    work(begin, length);
    for (std::thread& other : others) other.join();
}

}  // namespace cgc

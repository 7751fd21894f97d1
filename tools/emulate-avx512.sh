#!/usr/bin/env bash
# Run the C++ tests (all, or those named) on an emulated CPU that has AVX-512, for machines that have none.
#
#   tools/emulate-avx512.sh [test_combine ...]
#
# Links the tests statically in a temporary directory, boots a Linux kernel with them on a Skylake-X of Bochs,
# prints what the guest says, after the time of day, and fails unless AVX-512 was found and every test passed.
# Some 40 million instructions a second: test_combine takes a quarter of an hour, LIMIT (3h) ends it at the
# latest. The kernel comes from Debian's package, downloaded but not installed. Needs, on Debian 12:
#   cmake make g++ bochs bochsbios vgabios busybox-static isolinux syslinux-common xorriso cpio
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'kill ${emulator:+"$emulator"} 2> /dev/null || true; wait; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
tests=("$@")
[[ $# != 0 ]] || for source in "$checkout"/cpp/tests/test_*.cpp; do tests+=("$(basename "$source" .cpp)"); done

cd "$work"
cmake -S "$checkout" -B build -DCGC_BUILD_TESTS=ON -DCGC_BUILD_PYTHON=OFF -DCMAKE_EXE_LINKER_FLAGS="-static -s"
cmake --build build --parallel "$(nproc)" --target "${tests[@]}"
mkdir -p iso root/{bin,dev,proc,tests}
for test in "${tests[@]}"; do cp "build/$test" root/tests/; done
g++ -std=c++20 -static -I "$checkout/cpp/include" -o root/tests/detection -x c++ - -x none build/libcgc.a << END
#include <cstdio>
#include "cgc/instruction_set.hpp"
int main() { std::puts(cgc::name_of(cgc::instruction_set())); }
END
cat > root/init << END
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
grep -m 1 "model name" /proc/cpuinfo
export CGC_FAST_FORCE_ISA=avx512  # refused where it is not found
for test in detection ${tests[*]}; do
  if /tests/\$test; then echo "PASS \$test"; else echo "FAIL \$test: exit code \$?"; fi
done
sleep 1  # for the serial port
poweroff -f
END
chmod +x root/init && cp /bin/busybox root/bin/
(cd root && find . | cpio --quiet -o -H newc | gzip) > iso/initrd
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
apt-get -q -o APT::Sandbox::User=root download "$kernel"
dpkg-deb --fsys-tarfile linux-image-*.deb | tar -x -O --wildcards './boot/vmlinuz-*' > iso/vmlinuz
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 iso/
# Bochs 2.7 misstates the size of what XSAVEC and XSAVES save; Linux then does without AVX altogether.
options="console=ttyS0 loglevel=1 mitigations=off noxsaves clearcpuid=xsavec"
echo "default vmlinuz initrd=initrd $options" > iso/isolinux.cfg
xorriso -report_about SORRY -as mkisofs -quiet -o tests.iso -b isolinux.bin -no-emul-boot -boot-load-size 4 \
  -boot-info-table iso
cat > bochsrc << END
display_library: rfb, options="timeout=0"
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
cpu: model=corei7_skylake_x, ips=50000000
megs: 512
ata0-master: type=cdrom, path=tests.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=serial
END
touch serial
echo continue > commands  # Debian's Bochs stops in its debugger first
timeout "${LIMIT:-3h}" bochs -q -f bochsrc -rc commands < /dev/null &> screen &
emulator=$!
tail -n +1 -f --pid "$emulator" serial | while IFS= read -r line; do printf '%(%T)T %s\n' -1 "${line%$'\r'}"; done
[[ $(grep -c '^PASS ' serial) == $((${#tests[@]} + 1)) ]] || { echo "Not every test passed." >&2; exit 1; }

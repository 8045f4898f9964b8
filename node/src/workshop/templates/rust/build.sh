#!/bin/sh
# Builds src/main.rs to build/main.wasm: with rustup's target where that is installed, else with Debian's packages.
set -eu
mkdir -p build
for rustc in rustc /usr/bin/rustc; do
  for target in wasm32-wasip1 wasm32-wasi; do
    root=$("$rustc" --print sysroot 2>/dev/null) || continue
    [ -d "$root/lib/rustlib/$target" ] || continue
    set -- --edition 2021 --target "$target" -C opt-level=2 -C panic=abort -C strip=symbols -o build/main.wasm src/main.rs
    # Debian has the C library and the linker in packages of their own.
    if ! [ -e "$root/lib/rustlib/$target/lib/self-contained/crt1-command.o" ]; then
      libc=/usr/lib/wasm32-wasi
      set -- -C linker=wasm-ld -C link-self-contained=no -L "$libc" -C "link-arg=$libc/crt1-command.o" "$@"
    fi
    exec "$rustc" "$@"
  done
done
echo "no Rust for WebAssembly is installed: rustup target add wasm32-wasip1" >&2
echo "or, on Debian: apt-get install rustc libstd-rust-dev-wasm32 lld wasi-libc" >&2
exit 127

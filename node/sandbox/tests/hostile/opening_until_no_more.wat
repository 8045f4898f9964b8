;; expect: output
;; assets: a
(module
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "a")
  (func (export "_start") (local $errno i32)
    (loop $l (br_if $l (i32.eqz (local.tee $errno (call $path_open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 64))))))
    (if (i32.ne (local.get $errno) (i32.const 33)) (then (unreachable)))))

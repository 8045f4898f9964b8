;; expect: output
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.ne (call $poll_oneoff (i32.const 0) (i32.const 8000) (i32.const 65) (i32.const 4000)) (i32.const 28)) (then (unreachable)))))

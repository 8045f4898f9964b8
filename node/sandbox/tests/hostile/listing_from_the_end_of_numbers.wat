;; expect: output
;; assets: a deep/b
(module
  (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.ne (call $fd_readdir (i32.const 3) (i32.const 0) (i32.const 60000) (i64.const -1) (i32.const 65000)) (i32.const 0)) (then (unreachable)))))

;; expect: bad-package
;; says: wasi_snapshot_preview1.fd_teleport, which does not exist here
(module
  (import "wasi_snapshot_preview1" "fd_teleport" (func (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")))

;; expect: bad-package
;; says: not a module that runs here
(module
  (memory (export "memory") 1)
  (func $f (export "_start") (return_call $f)))

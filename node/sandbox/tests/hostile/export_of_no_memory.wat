;; expect: bad-package
;; says: does not export its memory
(module
  (memory 1)
  (func (export "_start")))

//! The guest's heap: libc's allocator with an account, so that a limit is kept exactly and known to have been hit.

use std::{cell::Cell, rc::Rc};

use rquickjs::allocator::Allocator;

/// The account of a guest's memory, shared by the engine's allocator and the host's buffers.
#[derive(Debug, Default)]
pub struct Account {
    used: Cell<usize>,
    limit: Cell<usize>,
    refused: Cell<bool>,
}

impl Account {
    /// Allows `budget` bytes beyond what is in use now, and forgets earlier refusals.
    pub fn allow(&self, budget: u64) {
        self.limit.set(self.used.get().saturating_add(usize::try_from(budget).unwrap_or(usize::MAX)));
        self.refused.set(false);
    }

    /// No limit: for what the host itself builds.
    pub fn unlimited(&self) {
        self.limit.set(usize::MAX);
    }

    /// Does something of the host's in the middle of a run: what it takes is not the guest's.
    pub fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        let (limit, used) = (self.limit.replace(usize::MAX), self.used.get());
        let result = act();
        self.limit.set(limit.saturating_add(self.used.get().saturating_sub(used)));
        result
    }

    /// Whether something was refused since the last [`Account::allow`].
    pub const fn has_refused(&self) -> bool {
        self.refused.get()
    }

    /// Notes that something did not fit.
    pub fn refuse(&self) {
        self.refused.set(true);
    }

    fn fits(&self, more: usize) -> bool {
        let fits = self.used.get().checked_add(more).is_some_and(|sum| sum <= self.limit.get());
        if !fits {
            self.refused.set(true);
        }
        fits
    }

    fn add(&self, ptr: *mut u8) -> *mut u8 {
        if ptr.is_null() {
            self.refused.set(true);
        } else {
            self.used.set(self.used.get() + usable(ptr));
        }
        ptr
    }
}

/// libc's allocator on an account.
pub struct Heap(pub Rc<Account>);

// SAFETY: every block is libc's, aligned for any type; sizes are those that libc reports.
unsafe impl Allocator for Heap {
    fn alloc(&mut self, size: usize) -> *mut u8 {
        if !self.0.fits(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: malloc takes any size.
        self.0.add(unsafe { libc::malloc(size) }.cast())
    }

    fn calloc(&mut self, count: usize, size: usize) -> *mut u8 {
        if !count.checked_mul(size).is_some_and(|bytes| self.0.fits(bytes)) {
            return std::ptr::null_mut();
        }
        // SAFETY: calloc takes any sizes.
        self.0.add(unsafe { libc::calloc(count, size) }.cast())
    }

    unsafe fn dealloc(&mut self, ptr: *mut u8) {
        if !ptr.is_null() {
            self.0.used.set(self.0.used.get().saturating_sub(usable(ptr)));
            // SAFETY: the caller gives back a block of this allocator.
            unsafe { libc::free(ptr.cast()) }
        }
    }

    unsafe fn realloc(&mut self, ptr: *mut u8, new_size: usize) -> *mut u8 {
        if ptr.is_null() {
            return self.alloc(new_size);
        }
        if new_size == 0 {
            // SAFETY: as the caller promises for `ptr`.
            unsafe { self.dealloc(ptr) };
            return std::ptr::null_mut();
        }
        let old = usable(ptr);
        if !self.0.fits(new_size.saturating_sub(old)) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller gives a block of this allocator; it stays valid when null comes back.
        let new: *mut u8 = unsafe { libc::realloc(ptr.cast(), new_size) }.cast();
        if !new.is_null() {
            self.0.used.set(self.0.used.get().saturating_sub(old));
        }
        self.0.add(new)
    }

    unsafe fn usable_size(ptr: *mut u8) -> usize {
        usable(ptr)
    }
}

fn usable(ptr: *mut u8) -> usize {
    // SAFETY: only called with live blocks of this allocator.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    unsafe {
        libc::malloc_usable_size(ptr.cast())
    }
    // SAFETY: as above.
    #[cfg(target_vendor = "apple")]
    unsafe {
        libc::malloc_size(ptr.cast())
    }
}

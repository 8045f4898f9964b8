//! The engine's memory: an account, so that a limit is kept exactly and known to have been hit, and an image of the
//! engine as it was before any guest, so that each run begins from the same bytes.

use std::{
    alloc::{self, Layout},
    cell::{Cell, RefCell},
    ptr::{self, NonNull},
    rc::Rc,
};

use rquickjs::allocator::Allocator;

/// Memory for the engine before its first run. *Measured: it takes a quarter of that.*
pub const CORE_BYTES: usize = 1 << 20;

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
}

/// What stands before each block.
#[repr(C, align(16))]
struct Head {
    size: usize,
    /// Its neighbours in the list of all blocks outside the core; null in the core.
    last: *mut Head,
    next: *mut Head,
}

const HEAD_BYTES: usize = size_of::<Head>();
// What libc promises of its blocks.
const _: () = assert!(align_of::<libc::max_align_t>() >= align_of::<Head>());

/// The memory of one engine. Until [`Memory::keep`] all of it lies in the core; after that blocks are libc's, and
/// [`Memory::restore`] frees them and sets the core back, byte for byte.
pub struct Memory {
    account: Rc<Account>,
    core: NonNull<u8>,
    /// Bytes of the core in use, and what was given back of them while the engine was built: start and length.
    top: Cell<usize>,
    spare: RefCell<Vec<(usize, usize)>>,
    /// The core as it is at the beginning of each run, once it is kept, and what the account says then.
    image: RefCell<Option<(Box<[u8]>, usize)>>,
    /// The newest block outside the core.
    blocks: Cell<*mut Head>,
}

impl Memory {
    const CORE: Layout = match Layout::from_size_align(CORE_BYTES, align_of::<Head>()) {
        Ok(layout) => layout,
        Err(_) => panic!("a size and an alignment that fit"),
    };

    /// Of an engine that is to be built.
    pub fn new(account: Rc<Account>) -> Option<Rc<Self>> {
        // SAFETY: the layout's size is not zero.
        let core = NonNull::new(unsafe { alloc::alloc_zeroed(Self::CORE) })?;
        let (image, blocks) = (RefCell::new(None), Cell::new(ptr::null_mut()));
        Some(Rc::new(Self { account, core, top: Cell::new(0), spare: RefCell::default(), image, blocks }))
    }

    /// The engine is built: this is how each run finds it.
    pub fn keep(&self) {
        // SAFETY: the first `top` bytes of the core were zero at first and are initialised; nobody writes meanwhile.
        let bytes: Box<[u8]> = unsafe { std::slice::from_raw_parts(self.core.as_ptr(), self.top.get()) }.into();
        *self.image.borrow_mut() = Some((bytes, self.account.used.get()));
    }

    /// Sets the engine back to what it was when it was kept. Nothing of the run is told of its end.
    ///
    /// # Safety
    /// Nobody but the engine holds a value of the engine that he did not hold then, and nothing that the engine held then
    /// for somebody outside its memory was given back since.
    pub unsafe fn restore(&self) {
        let mut block = self.blocks.replace(ptr::null_mut());
        while !block.is_null() {
            // SAFETY: all blocks of the list are live and libc's, and none is used any more.
            unsafe {
                let next = (*block).next;
                libc::free(block.cast());
                block = next;
            }
        }
        if let Some((bytes, used)) = &*self.image.borrow() {
            // SAFETY: the image is as long as the part of the core that it was made of.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.core.as_ptr(), bytes.len()) };
            self.account.used.set(*used);
        }
    }

    /// Bytes of the image.
    #[cfg(test)]
    pub fn kept_bytes(&self) -> usize {
        self.image.borrow().as_ref().map_or(0, |(bytes, _)| bytes.len())
    }

    fn is_kept(&self) -> bool {
        self.image.borrow().is_some()
    }

    fn is_in_core(&self, block: *mut Head) -> bool {
        (block as usize).wrapping_sub(self.core.as_ptr() as usize) < CORE_BYTES
    }

    /// A new block of `size` bytes, all zero if they are to be.
    fn block(&self, size: usize, is_zero: bool) -> *mut u8 {
        let Some(whole) = size.checked_add(HEAD_BYTES).filter(|_| self.account.fits(size)) else {
            return ptr::null_mut();
        };
        let head: *mut Head = if self.is_kept() {
            // SAFETY: malloc and calloc take any size.
            unsafe { if is_zero { libc::calloc(1, whole) } else { libc::malloc(whole) } }.cast()
        } else {
            self.in_core(whole)
        };
        if head.is_null() {
            self.account.refuse();
            return ptr::null_mut();
        }
        // SAFETY: the block is new, large enough and aligned as libc and the core align.
        unsafe {
            head.write(Head { size, last: ptr::null_mut(), next: ptr::null_mut() });
            self.enter(head);
            head.add(1).cast()
        }
    }

    /// So many bytes of the core, all zero: what was given back is used again, so that the image is small.
    fn in_core(&self, whole: usize) -> *mut Head {
        let Some(whole) = whole.checked_next_multiple_of(align_of::<Head>()) else { return ptr::null_mut() };
        let mut spare = self.spare.borrow_mut();
        let start = match spare.iter_mut().find(|(_, length)| *length >= whole) {
            Some((start, length)) => {
                *length -= whole;
                *start + *length
            }
            None => {
                let start = self.top.get();
                let Some(end) = start.checked_add(whole).filter(|end| *end <= CORE_BYTES) else {
                    return ptr::null_mut();
                };
                self.top.set(end);
                start
            }
        };
        // SAFETY: within the core, and nobody's.
        unsafe {
            let block = self.core.as_ptr().add(start);
            block.write_bytes(0, whole);
            block.cast()
        }
    }

    /// Takes back a block of the core: while the engine is built, or it comes back with the image.
    fn to_core(&self, head: *mut Head, size: usize) {
        if self.is_kept() {
            return;
        }
        let start = head as usize - self.core.as_ptr() as usize;
        let mut length = (HEAD_BYTES + size).next_multiple_of(align_of::<Head>());
        let mut spare = self.spare.borrow_mut();
        if let Some(behind) = spare.iter().position(|(other, _)| *other == start + length) {
            length += spare.swap_remove(behind).1;
        }
        match spare.iter_mut().find(|(other, its)| other + *its == start) {
            Some((_, before)) => *before += length,
            None => spare.push((start, length)),
        }
    }

    /// Counts a block, and puts it into the list if it is libc's.
    ///
    /// # Safety
    /// A live block that is not in the list.
    unsafe fn enter(&self, head: *mut Head) {
        // SAFETY: as promised, and what the list holds lives.
        unsafe {
            self.account.used.set(self.account.used.get().saturating_add((*head).size));
            if self.is_in_core(head) {
                return;
            }
            let next = self.blocks.replace(head);
            ((*head).last, (*head).next) = (ptr::null_mut(), next);
            if !next.is_null() {
                (*next).last = head;
            }
        }
    }

    /// The opposite of [`Memory::enter`].
    ///
    /// # Safety
    /// A live block of this memory.
    unsafe fn leave(&self, head: *mut Head) {
        // SAFETY: as promised, and what the list holds lives.
        unsafe {
            self.account.used.set(self.account.used.get().saturating_sub((*head).size));
            if self.is_in_core(head) {
                return;
            }
            let Head { last, next, .. } = *head;
            match last.is_null() {
                true => self.blocks.set(next),
                false => (*last).next = next,
            }
            if !next.is_null() {
                (*next).last = last;
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the engine is gone, and with it all that used its memory; the core was allocated with this layout.
        unsafe {
            self.restore();
            alloc::dealloc(self.core.as_ptr(), Self::CORE);
        }
    }
}

/// The engine's allocator.
pub struct Heap(pub Rc<Memory>);

// SAFETY: every block has `size` bytes behind its head and is aligned for any type.
unsafe impl Allocator for Heap {
    fn alloc(&mut self, size: usize) -> *mut u8 {
        self.0.block(size, false)
    }

    fn calloc(&mut self, count: usize, size: usize) -> *mut u8 {
        count.checked_mul(size).map_or(ptr::null_mut(), |size| self.0.block(size, true))
    }

    unsafe fn dealloc(&mut self, ptr: *mut u8) {
        if ptr.is_null() {
            return;
        }
        let head = head_of(ptr);
        // SAFETY: the caller gives back a block of this allocator.
        unsafe {
            self.0.leave(head);
            match self.0.is_in_core(head) {
                true => self.0.to_core(head, (*head).size),
                false => libc::free(head.cast()),
            }
        }
    }

    unsafe fn realloc(&mut self, ptr: *mut u8, new_size: usize) -> *mut u8 {
        if ptr.is_null() {
            return self.alloc(new_size);
        }
        if new_size == 0 {
            // SAFETY: as the caller promises for `ptr`.
            unsafe { self.dealloc(ptr) };
            return ptr::null_mut();
        }
        let head = head_of(ptr);
        // SAFETY: the caller gives a block of this allocator; it stays valid when null comes back.
        unsafe {
            let old = (*head).size;
            if self.0.is_in_core(head) {
                let new = self.alloc(new_size);
                if !new.is_null() {
                    ptr::copy_nonoverlapping(ptr, new, old.min(new_size));
                    self.dealloc(ptr);
                }
                return new;
            }
            let whole = new_size.checked_add(HEAD_BYTES);
            let Some(whole) = whole.filter(|_| self.0.account.fits(new_size.saturating_sub(old))) else {
                return ptr::null_mut();
            };
            self.0.leave(head);
            let new: *mut Head = libc::realloc(head.cast(), whole).cast();
            if new.is_null() {
                self.0.enter(head);
                self.0.account.refuse();
                return ptr::null_mut();
            }
            (*new).size = new_size;
            self.0.enter(new);
            new.add(1).cast()
        }
    }

    unsafe fn usable_size(ptr: *mut u8) -> usize {
        // SAFETY: only called with live blocks of this allocator.
        unsafe { (*head_of(ptr)).size }
    }
}

fn head_of(ptr: *mut u8) -> *mut Head {
    ptr.wrapping_sub(HEAD_BYTES).cast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> (Rc<Account>, Heap) {
        let account = Rc::<Account>::default();
        account.unlimited();
        (account.clone(), Heap(Memory::new(account).unwrap()))
    }

    /// What was there when the memory was kept is there again after a run, whatever that wrote, freed and grew.
    #[test]
    fn a_run_leaves_nothing() {
        let (account, mut heap) = memory();
        let kept = heap.alloc(100);
        let freed = heap.calloc(10, 10);
        // SAFETY: blocks of 100 bytes, live until the heap is dropped; what a run made is not used after it.
        unsafe {
            kept.write_bytes(7, 100);
            heap.0.keep();
            let used = account.used.get();
            for run in 0..3 {
                kept.write_bytes(run, 100);
                heap.dealloc(freed);
                let grown = heap.realloc(kept, 5_000);
                assert_eq!(*grown.add(99), run);
                let mut more = heap.calloc(100, 1_000);
                assert!((0..100_000).all(|at| *more.add(at) == 0));
                more = heap.realloc(more, 200_000);
                heap.dealloc(heap.0.blocks.get().cast::<u8>().add(HEAD_BYTES));
                assert!(heap.alloc(50) != more);
                heap.0.restore();
                assert!((0..100).all(|at| *kept.add(at) == 7 && *freed.add(at) == 0), "run {run}");
                assert_eq!((account.used.get(), heap.0.blocks.get().is_null()), (used, true));
            }
        }
    }

    /// The account counts each byte that was asked for, and a limit is kept to the byte.
    #[test]
    fn a_limit_is_exact() {
        let (account, mut heap) = memory();
        heap.0.keep();
        account.allow(1_000);
        let block = heap.alloc(600);
        assert!(!block.is_null() && heap.alloc(401).is_null() && account.has_refused());
        // SAFETY: a live block of 600 bytes.
        unsafe {
            assert!(heap.realloc(block, 1_001).is_null(), "and the old one stays");
            let block = heap.realloc(block, 1_000);
            assert!(!block.is_null() && heap.alloc(1).is_null());
            heap.dealloc(block);
        }
        assert!(!heap.alloc(1_000).is_null());
        assert!(heap.alloc(usize::MAX).is_null() && heap.calloc(usize::MAX, 2).is_null());
    }

    /// What is given back while the engine is built is used again, and is zero then.
    #[test]
    fn building_leaves_no_holes() {
        let (_, mut heap) = memory();
        let blocks: Vec<_> = (0..9).map(|_| heap.alloc(1_000)).collect();
        let top = heap.0.top.get();
        // SAFETY: live blocks of that size, each given back once.
        unsafe {
            for at in [1, 3, 2] {
                blocks[at].write_bytes(1, 1_000);
                heap.dealloc(blocks[at]);
            }
            let block = heap.calloc(1, 3_000);
            assert!((blocks[1]..=blocks[3]).contains(&block) && (0..3_000).all(|at| *block.add(at) == 0));
        }
        assert_eq!(heap.0.top.get(), top);
    }

    /// More than the core holds is not there, rather than in a place that no image has.
    #[test]
    fn the_core_is_bounded() {
        let (account, mut heap) = memory();
        assert!(heap.alloc(CORE_BYTES).is_null() && account.has_refused());
        assert!(!heap.alloc(CORE_BYTES - HEAD_BYTES).is_null());
        assert!(heap.alloc(1).is_null());
    }
}

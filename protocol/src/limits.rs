//! Every bound of the protocol, named once, each with its reason.
//!
//! *Judgement* marks a number that was chosen and not measured: it may be tuned on real runs.

use std::time::Duration;

// ---- CBOR ----------------------------------------------------------------------------------------------------------

/// Nesting of arrays and maps. Our deepest message uses 6; a parser's stack must never depend on a stranger.
pub const CBOR_DEPTH: usize = 16;
/// Items (array elements plus map pairs) in one message. Bounds the growth from input bytes to memory (25x measured).
pub const CBOR_ITEMS: usize = 4_096;
/// One text string.
pub const CBOR_TEXT_BYTES: usize = 64 * 1024;

// ---- Messages ------------------------------------------------------------------------------------------------------

/// DeviceInfo, discovery, offers, receipts and every other control message; the same as a Kademlia packet.
pub const CONTROL_BYTES: usize = 16 * 1024;
/// Bytes of input, output or blob carried by one frame or one response: small enough that a control frame waits for
/// at most one of them.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// A job-stream frame or blob response: one chunk and its header.
pub const FRAME_BYTES: usize = CHUNK_BYTES + 1024;
/// Blobs that come with a manifest: the files of a small package. *Judgement.*
pub const MORE_BLOBS: usize = 16;
/// A gossip message is a pointer, never a payload.
pub const GOSSIP_BYTES: usize = 4 * 1024;
/// The answer of `/msm/head/1`: one head and a few roots.
pub const HEAD_RESPONSE_BYTES: usize = 256 * 1024;
/// Roots in one answer of `/msm/head/1`; longer chains are asked for in steps. *Judgement.*
pub const ROOTS_PER_RESPONSE: usize = 4;
/// Text of a refusal's reason.
pub const REASON_BYTES: usize = 512;
/// Addresses in one presence message. *Judgement.*
pub const PRESENCE_ADDRESSES: usize = 8;
/// Markets, engines or sensors listed in one DeviceInfo. *Judgement.*
pub const DEVICE_LIST: usize = 16;

// ---- Documents -----------------------------------------------------------------------------------------------------

/// A head envelope: it is gossiped and stored in the DHT.
pub const HEAD_BYTES: usize = 1024;
/// A root envelope (TUF: tens of kilobytes).
pub const ROOT_BYTES: usize = 64 * 1024;
/// An index envelope. The index holds tree roots and delegations, so most are under 1 KiB.
pub const INDEX_BYTES: usize = 64 * 1024;
/// One page of a market's trees.
pub const PAGE_BYTES: usize = 64 * 1024;
/// Entries in one page; with [`ENTRY_BYTES`] it keeps a page far below [`PAGE_BYTES`] in practice.
pub const PAGE_ENTRIES: usize = 128;
/// One entry.
pub const ENTRY_BYTES: usize = 4 * 1024;
/// Levels of a market's trees: 32 entries a page on average give 32^6 releases.
pub const TREE_LEVELS: usize = 6;
/// Pages of one tree that are read by who reads all of it: its operator, a mirror, an inspection. At 48 entries a page
/// these are three million releases. *Judgement.*
pub const PAGES_PER_TREE: usize = 65_536;
/// Pages that one question may take: all versions of one service, or the services that a word finds. *Judgement.*
pub const PAGES_PER_LOOKUP: usize = 256;
/// Names that are others' to publish, in one index. *Judgement*: with it an index stays under its limit.
pub const DELEGATIONS: usize = 128;
/// Keys whose reviews count in one market.
pub const REVIEWERS: usize = 64;
/// Reviews that one release carries.
pub const REVIEWS: usize = 8;
/// A review's envelope.
pub const REPORT_BYTES: usize = 16 * 1024;
/// Checks told in one review.
pub const REPORT_CHECKS: usize = 64;
/// A word that finds a service: longer ones are cut by nobody, they are not indexed.
pub const WORD_BYTES: usize = 48;
/// Words that find one service. *Judgement*: name, scope and a summary of one line have fewer.
pub const WORDS_PER_SERVICE: usize = 32;
/// Why something was revoked, for people.
pub const REVOCATION_REASON_CHARS: usize = 200;
/// Older indexes that a node keeps, to tell whether others were shown another past. *Judgement*: a market that publishes
/// daily is compared over two months.
pub const INDEXES_KEPT: usize = 64;
/// Signatures on one envelope; bounds a verification to about a millisecond.
pub const SIGNATURES: usize = 16;
/// Keys that may sign for one role.
pub const KEYS_PER_ROLE: usize = 16;
/// How far a market's version may step at once: a bigger jump is a fast-forward attack (B10). *Judgement.*
pub const VERSION_STEP: u64 = 1 << 20;
/// Clock difference between a market's publisher and a node that is forgiven. *Judgement.*
pub const CLOCK_SKEW: Duration = Duration::from_secs(10 * 60);

// ---- Packages ------------------------------------------------------------------------------------------------------

/// A manifest blob.
pub const MANIFEST_BYTES: usize = 64 * 1024;
/// Source of a JavaScript variant.
pub const JS_BYTES: usize = 1024 * 1024;
/// A wasm variant.
pub const WASM_BYTES: usize = 4 * 1024 * 1024;
/// A whole package: the manifest and all its variants (the paper's packages are 1.3 to 2.1 kB).
pub const PACKAGE_BYTES: usize = 8 * 1024 * 1024;
/// Files beside the main one in one variant, and assets of one package: a manifest stays far below its limit. *Judgement.*
pub const FILES: usize = 64;
/// Path of such a file. *Judgement.*
pub const FILE_PATH_BYTES: usize = 120;
/// Variants in one manifest.
pub const VARIANTS: usize = 8;
/// Parameters of one service.
pub const PARAMS: usize = 32;
/// The JSON text of all parameters of one call.
pub const PARAMS_BYTES: usize = 8 * 1024;
/// A name segment: market alias, service name, parameter name.
pub const NAME_BYTES: usize = 40;

// ---- Jobs ----------------------------------------------------------------------------------------------------------

/// Input of a whole job that must be held in memory to be cut, where the manifest says nothing smaller. A manifest that
/// says just this sets no limit of its own where parts are pieces of the input: see [`JOB_DISK_BYTES`].
pub const JOB_INPUT_BYTES: u64 = 64 * 1024 * 1024;
/// Input of a whole job whose parts are pieces of it (`bytes:SIZE`, `lines:N`), on disk. As many tasks of the largest size
/// as a job may have would be more than most disks of small devices have free. *Judgement.*
pub const JOB_DISK_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// Tasks of one job: bounds bookkeeping (a few MiB), not input size. Ten thousand tiny tasks are one job.
pub const TASKS_PER_JOB: usize = 16_384;
/// Aimed-at input of one task.
pub const TASK_TARGET_BYTES: usize = 1024 * 1024;
/// Input or output of one task at most.
pub const TASK_BYTES: usize = 8 * 1024 * 1024;
/// Tasks that a worker holds before it has shown what it can: one runs while the next arrives. As many may be sent
/// before it has taken the offer.
pub const CREDIT: u32 = 2;
/// Tasks that one lane holds at a time at most: enough to keep a worker busy over 100 ms of way with tasks of 2 ms.
/// *Judgement.*
pub const CREDIT_MAX: u32 = 64;
/// Inputs that may be sent before the worker has taken the offer: what its reader and the stream's window hold.
pub const EARLY_BYTES: usize = 1024 * 1024;
/// An input or output up to this size lies in the frame that announces it: a frame of its own would cost more than the
/// wait of a heartbeat behind it. *Judgement.*
pub const INLINE_BYTES: usize = 16 * 1024;
/// Jobs open on one lane: twice as many as it can hold tasks. *Judgement.*
pub const JOBS_PER_LANE: usize = 128;
/// Results that one receipt vouches for: as many as fit into a control message.
pub const CLAIMS: usize = 128;
/// A worker signs for a result within this time, and before it leaves. Signing for each at once would cost more than a
/// small call.
pub const RECEIPT_TIME: Duration = Duration::from_secs(1);
/// Remote attempts of one task before it runs locally.
pub const REMOTE_ATTEMPTS: u32 = 3;
/// Deadline of a task when the manifest gives none.
pub const TASK_TIME: Duration = Duration::from_secs(10);
/// Deadline that no manifest may exceed.
pub const TASK_TIME_MAX: Duration = Duration::from_secs(60);
/// A worker says that it still works this often.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// The shortest lease: a few lost heartbeats are not a lost worker.
pub const LEASE_MIN: Duration = Duration::from_secs(5);
/// Memory of a guest when the manifest gives none.
pub const GUEST_MEMORY: u64 = 64 * 1024 * 1024;
/// Memory that no owner's ceiling may be raised above by default.
pub const GUEST_MEMORY_MAX: u64 = 256 * 1024 * 1024;

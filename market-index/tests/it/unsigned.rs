//! Whatever bytes arrive: what the market's keys have not signed changes nothing. 20,000 cases a run; `MSM_CASES` sets
//! another number, `MSM_SEED` another beginning.

use msm_market_index::TrustedMarket;
use msm_protocol::{Envelope, document::Index};

use crate::fixture::{Forge, NOW, role, sign};

/// xorshift64*: the cases are the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides.max(1)
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// One of the ways in which bytes may be wrong.
fn damage(dice: &mut Dice, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    for _ in 0..=dice.roll(3) {
        let (at, kind) = (dice.roll(bytes.len()), dice.roll(8));
        let other = &others[dice.roll(others.len())];
        match kind {
            0 => bytes[at] ^= 1 << dice.roll(8),
            1 => bytes[at] = dice.roll(256) as u8,
            2 => bytes.truncate(at.max(1)),
            3 => {
                let end = (at + dice.roll(40)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                // A piece of another signed document, such as its signature, in the same place or elsewhere.
                let from = dice.roll(other.len());
                let piece = &other[from..(from + dice.roll(120)).min(other.len())];
                let end = (at + piece.len()).min(bytes.len());
                bytes.splice(at..end, piece.iter().copied());
            }
            5 => {
                let length = (64 + dice.roll(64)).min(bytes.len()).min(other.len());
                bytes[..length].copy_from_slice(&other[..length]);
            }
            6 => bytes.extend_from_slice(&other[..dice.roll(other.len())]),
            _ => *bytes = other.clone(),
        }
    }
}

#[test]
fn what_nobody_has_signed_changes_nothing() {
    let forge = Forge::new();
    let (device, eight) = forge.device_at(8);
    let (nine, nine_head) = forge.pair(9, Some(&eight));
    let root = sign(&forge.next_root(|root| root.roles.head = role(&[33], 1)), &[1]);
    let mut announced = device.clone();
    announced.update_head(&nine_head, NOW).unwrap();
    // Signed by the market, and by others.
    let signed = [root, nine_head, nine];
    let others: Vec<Vec<u8>> = signed
        .iter()
        .cloned()
        .chain([
            sign(&forge.head(9, b"other"), &[7]),
            sign(&forge.index(9, Some(&eight)), &[7, 3]),
            sign(&forge.next_root(|root| root.roles.root = role(&[7], 1)), &[7]),
            sign(&forge.head(10, b"other"), &[1, 2]),
            forge.root_bytes(),
            vec![0xa3; 300],
        ])
        .collect();
    let payload = |bytes: &[u8]| Envelope::from_slice::<Index>(bytes).ok().map(|envelope| envelope.payload().to_vec());
    let believable: Vec<Vec<u8>> = signed
        .iter()
        .chain([&eight, &forge.root_bytes(), &sign(&forge.head(8, &eight), &[3])])
        .filter_map(|bytes| payload(bytes))
        .collect();
    let cases = number("MSM_CASES", 20_000);
    let mut dice = Dice(number("MSM_SEED", 0x9e37_79b9_7f4a_7c15));
    let mut accepted = 0u64;
    for case in 0..cases {
        let mut bytes = others[dice.roll(others.len())].clone();
        damage(&mut dice, &mut bytes, &others);
        let (mut after, before): (TrustedMarket, &TrustedMarket) =
            if dice.roll(2) == 0 { (device.clone(), &device) } else { (announced.clone(), &announced) };
        let ok = match dice.roll(3) {
            0 => after.update_root(&bytes, NOW).is_ok(),
            1 => after.update_head(&bytes, NOW).is_ok(),
            _ => after.update_index(&bytes, NOW).is_ok(),
        };
        if ok {
            accepted += 1;
            let said = payload(&bytes).expect("an envelope");
            assert!(believable.contains(&said), "case {case}: a document that the market has not signed");
        } else {
            assert_eq!(after, *before, "case {case}: a refusal changed what is believed");
        }
    }
    assert!(accepted > 0 && accepted < cases / 2, "{accepted} of {cases}: the cases are about something");
}

//! Fewer bytes: a codec from the shelf, and one of the game's own.
//!
//! `cargo run --example custom_codec`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::prelude::*;
use roomkeeper::protocol::{Codec, CodecError, Quantised, Reader};
use roomkeeper::room::{Room, RoomOptions};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone, Copy)]
struct Position([f32; 3]);

#[derive(Component, Serialize, Deserialize, Clone, Copy, PartialEq, Debug)]
struct Cell {
    file: u8,
    rank: u8,
}

/// A square of a chessboard in one byte.
#[derive(Clone)]
struct Square;

impl Codec<Cell> for Square {
    fn encode(&self, cell: &Cell, out: &mut Vec<u8>) {
        out.push(cell.file | cell.rank << 3);
    }

    fn decode(&self, reader: &mut Reader<'_>) -> Result<Cell, CodecError> {
        let at = reader.at();
        match reader.byte()? {
            square @ 0..64 => Ok(Cell { file: square & 7, rank: square >> 3 }),
            other => Err(CodecError::Unknown { what: "square", value: other.into(), at }),
        }
    }

    /// What a client must share with its server.
    fn shape(&self) -> String {
        "square".to_owned()
    }
}

fn plain(app: &mut App) {
    app.sync::<Position>("position").latest();
    app.sync::<Cell>("cell");
}

fn small(app: &mut App) {
    // A kilometre in millimetres, three times: 8 bytes.
    app.sync_with("position", Quantised::new(-500.0..=500.0, 0.001).via(|at: &Position| at.0, Position)).latest();
    app.sync_with("cell", Square);
}

fn snapshot_bytes(protocol: fn(&mut App)) -> Result<usize> {
    let mut room = Room::new(RoomOptions::named("board"), protocol, |_: &mut App| {})?;
    for n in 0..100_u8 {
        room.world_mut().spawn((Position([f32::from(n); 3]), Cell { file: n % 8, rank: n / 8 % 8 }));
    }
    room.tick([])?;
    Ok(room.snapshot()?.len())
}

fn main() -> Result {
    let mut byte = Vec::new();
    Square.encode(&Cell { file: 4, rank: 3 }, &mut byte);
    assert_eq!(Square.decode(&mut Reader::new(&byte))?, Cell { file: 4, rank: 3 });
    println!("100 entities: {} bytes as they are, {} by codecs", snapshot_bytes(plain)?, snapshot_bytes(small)?);
    Ok(())
}

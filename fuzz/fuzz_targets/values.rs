#![no_main]
roomkeeper_fuzz::target!("values");

#![no_main]
roomkeeper_fuzz::target!("websocket");

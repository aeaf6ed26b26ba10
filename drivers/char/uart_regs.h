// Registers of the 16550 UART: National Semiconductor, PC16550D Universal Asynchronous
// Receiver/Transmitter with FIFOs, June 1995. Facts only; sections cited are that datasheet's.
#pragma once

// Offsets from the base port (8.0, table II). Three names share offset 0, two share 1 and 2.
enum uart_reg {
    UART_RBR = 0, // receiver buffer, read; LCR.DLAB = 0
    UART_THR = 0, // transmitter holding, write; LCR.DLAB = 0
    UART_DLL = 0, // divisor, low byte; LCR.DLAB = 1
    UART_IER = 1, // interrupt enable; LCR.DLAB = 0
    UART_DLM = 1, // divisor, high byte; LCR.DLAB = 1
    UART_IIR = 2, // interrupt identification, read
    UART_FCR = 2, // FIFO control, write
    UART_LCR = 3, // line control
    UART_MCR = 4, // modem control
    UART_LSR = 5, // line status
    UART_MSR = 6, // modem status
    UART_SCR = 7, // scratch: does nothing, so it tells whether anybody is there
};

// IER (8.7)
#define UART_IER_RDI  0x01u // received data available, and the FIFO's timeout
#define UART_IER_THRI 0x02u // transmitter holding register (FIFO) empty
#define UART_IER_RLSI 0x04u // receiver line status: overrun, parity, framing, break

// IIR (8.6): bit 0 is 0 when something is pending; bits 3:1 say what, by priority. Reading it
// clears a pending THRE.
#define UART_IIR_NONE 0x01u
#define UART_IIR_FIFO 0xc0u // both set: a 16550A whose FIFOs are on

// FCR (8.5)
#define UART_FCR_ENABLE    0x01u
#define UART_FCR_CLEAR_RX  0x02u
#define UART_FCR_CLEAR_TX  0x04u
#define UART_FCR_TRIGGER_8 0x80u // interrupt at 8 bytes: leaves 8 byte times to react

// LCR (8.3)
#define UART_LCR_8N1  0x03u
#define UART_LCR_DLAB 0x80u

// MCR (8.8). OUT2 gates the interrupt line on a PC's board.
#define UART_MCR_DTR  0x01u
#define UART_MCR_RTS  0x02u
#define UART_MCR_OUT2 0x08u

// LSR (8.4). Reading it clears the error bits.
#define UART_LSR_DR   0x01u // data ready
#define UART_LSR_OE   0x02u // overrun: a byte was lost in the receiver
#define UART_LSR_PE   0x04u
#define UART_LSR_FE   0x08u
#define UART_LSR_BI   0x10u // break; a NUL byte stands for it in the FIFO
#define UART_LSR_THRE 0x20u // with FIFOs: the transmit FIFO is empty
#define UART_LSR_TEMT 0x40u // and the shift register too

// MSR (8.9)
#define UART_MSR_CTS 0x10u
#define UART_MSR_DSR 0x20u
#define UART_MSR_DCD 0x80u

#define UART_CLOCK_HZ   1843200u // crystal of the PC; 8.3's table divides it by 16
#define UART_FIFO_DEPTH 16u

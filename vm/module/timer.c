// SPDX-License-Identifier: GPL-2.0-only
/*
 * A virtual machine that was saved and restored may have lost its timers:
 * QEMU up to 10.0 saves the time at which a hart's timer is due, but does not
 * arm it again. A hart then waits for a tick that never comes, and with it
 * every grace period of RCU.
 */
#include <linux/smp.h>
#include <linux/timex.h>
#include <asm/cpufeature.h>
#include <asm/csr.h>
#include <asm/sbi.h>

#include "tlbdiff.h"

/* A timer that is due now makes the kernel arm the next one by itself. */
static void timer_due(void *unused)
{
	if (riscv_isa_extension_available(NULL, SSTC))
		csr_write(CSR_STIMECMP, get_cycles64());
	else
		sbi_ecall(SBI_EXT_TIME, SBI_EXT_TIME_SET_TIMER, get_cycles64(),
			  0, 0, 0, 0, 0);
}

/* On every hart; harmless where nothing was lost: one tick comes early. */
void timers_rearm(void)
{
	on_each_cpu(timer_due, NULL, 1);
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * The IOMMU itself. Its device directory has one level; a device's context holds
 * the root of one mm's page tables and its PSCID at a time, and is aimed anew for
 * each access. Whether an access was answered from the cache is seen by the counter
 * of cache misses; the debug interface looks into the cache and never fills it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitfield.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/of_address.h>
#include <linux/pgtable.h>
#include <linux/spinlock.h>

#include <asm/csr.h>

#include "../tlbdiff_uapi.h"
#include "iommu.h"

/* Registers. */
#define REG_CAPABILITIES	0x0000
#define   CAP_MSI_FLAT		BIT_ULL(22)
#define   CAP_HPM		BIT_ULL(30)
#define   CAP_DBG		BIT_ULL(31)
#define REG_DDTP		0x0010
#define   DDTP_MODE_OFF		0
#define   DDTP_MODE_1LVL	2
#define   DDTP_PPN		GENMASK_ULL(53, 10)
#define REG_CQB			0x0018
#define REG_CQH			0x0020
#define REG_CQT			0x0024
#define REG_FQB			0x0028
#define REG_FQH			0x0030
#define REG_FQT			0x0034
#define   QUEUE_PPN		GENMASK_ULL(53, 10)
#define REG_CQCSR		0x0048
#define REG_FQCSR		0x004c
#define   QCSR_ENABLE		BIT(0)
#define   QCSR_ERRORS		GENMASK(10, 8)
#define   QCSR_ON		BIT(16)
#define REG_IOCOUNTINH		0x005c
#define REG_IOHPMCTR1		0x0068
#define REG_IOHPMEVT1		0x0160
#define   EVENT_TLB_MISS	4
#define REG_TR_REQ_IOVA		0x0258
#define REG_TR_REQ_CTL		0x0260
#define   TR_REQ_GO		BIT_ULL(0)
#define   TR_REQ_NW		BIT_ULL(3)
#define   TR_REQ_DID		GENMASK_ULL(63, 40)
#define REG_TR_RESPONSE		0x0268
#define   TR_RESPONSE_FAULT	BIT_ULL(0)

/* Commands. */
#define IOTINVAL_VMA		1ULL
#define   IOTINVAL_AV		BIT_ULL(10)
#define   IOTINVAL_PSCID	GENMASK_ULL(31, 12)
#define   IOTINVAL_PSCV		BIT_ULL(32)
#define   IOTINVAL_ADDR		GENMASK_ULL(61, 10)
#define IOFENCE_C		2ULL
#define NO_COMMAND		0x7fULL
#define IODIR_INVAL_DDT		3ULL
#define   IODIR_DV		BIT_ULL(33)
#define   IODIR_DID		GENMASK_ULL(63, 40)

/* Device contexts, in words of 8 bytes. */
#define DC_TC			0
#define   DC_TC_V		BIT_ULL(0)
#define DC_TA			2
#define   DC_TA_PSCID		GENMASK_ULL(31, 12)
#define DC_FSC			3
#define   DC_FSC_MODE		GENMASK_ULL(63, 60)
#define   DC_FSC_PPN		GENMASK_ULL(43, 0)
#define DC_WORDS_MAX		8

/* Records of the fault queue, in words of 8 bytes. */
#define FAULT_WORDS		4
#define   FAULT_CAUSE		GENMASK_ULL(11, 0)
#define FAULT_IOTVAL		2

/* A queue is a page. The field of its base is the logarithm of half its entries. */
#define COMMAND_WORDS		2
#define COMMANDS		(PAGE_SIZE / (COMMAND_WORDS * sizeof(u64)))
#define FAULTS			(PAGE_SIZE / (FAULT_WORDS * sizeof(u64)))

/* Tries until hardware that does not answer is given up: a tenth of a second or more. */
#define TRIES			100000

/* For trying what becomes of a queue that stops. */
static uint illegal;
module_param(illegal, uint, 0444);
MODULE_PARM_DESC(illegal, "this command, from 1 on, is no command (for tests)");

static struct {
	void __iomem *registers;
	struct resource place;
	u64 *directory;
	u64 *commands;
	u64 *faults;
	u32 context_words;
	/* Over the command queue, from under page-table locks. */
	raw_spinlock_t lock;
	u32 tail;
	u32 error;
	u64 error_value;
} iommu = {
	.lock = __RAW_SPIN_LOCK_UNLOCKED(iommu.lock),
};

static u32 get(unsigned int reg)
{
	return readl(iommu.registers + reg);
}

static void set(unsigned int reg, u32 value)
{
	writel(value, iommu.registers + reg);
}

static u64 get64(unsigned int reg)
{
	return readq(iommu.registers + reg);
}

static void set64(unsigned int reg, u64 value)
{
	writeq(value, iommu.registers + reg);
}

bool hardware_is_failing(void)
{
	return READ_ONCE(iommu.error);
}

/* The first that goes wrong is what is told. */
void hardware_failed(u32 error, u64 value)
{
	if (READ_ONCE(iommu.error))
		return;
	iommu.error_value = value;
	WRITE_ONCE(iommu.error, error);
}

u32 hardware_error(u64 *value)
{
	u32 error = READ_ONCE(iommu.error);

	*value = iommu.error_value;
	iommu.error = 0;
	return error;
}

static bool await(unsigned int reg, u32 mask, u32 value)
{
	int i;

	for (i = 0; i < TRIES; i++) {
		if ((get(reg) & mask) == value)
			return true;
		cpu_relax();
	}
	return false;
}

/* Under the lock: what it was given is done, or it is noted that it is not. */
static void await_commands(void)
{
	u32 csr;

	if (await(REG_CQH, ~0U, iommu.tail))
		return;
	csr = get(REG_CQCSR);
	hardware_failed(csr & QCSR_ERRORS ? TLBDIFF_FAILED_COMMANDS :
	       TLBDIFF_FAILED_TIMEOUT, csr);
}

static void command(u64 first, u64 second)
{
	unsigned long flags;
	u32 next;

	raw_spin_lock_irqsave(&iommu.lock, flags);
	/* One that has stopped is not waited for again and again. */
	if (!READ_ONCE(iommu.error)) {
		if (illegal && !--illegal)
			first = NO_COMMAND;
		iommu.commands[iommu.tail * COMMAND_WORDS] = first;
		iommu.commands[iommu.tail * COMMAND_WORDS + 1] = second;
		next = (iommu.tail + 1) % COMMANDS;
		/* writel() orders it after what was written to memory. */
		set(REG_CQT, next);
		iommu.tail = next;
		await_commands();
	}
	raw_spin_unlock_irqrestore(&iommu.lock, flags);
}

void hardware_invalidate(u32 pscid)
{
	command(IOTINVAL_VMA | IOTINVAL_PSCV |
		FIELD_PREP(IOTINVAL_PSCID, pscid), 0);
}

void hardware_invalidate_page(u32 pscid, unsigned long addr)
{
	command(IOTINVAL_VMA | IOTINVAL_PSCV | IOTINVAL_AV |
		FIELD_PREP(IOTINVAL_PSCID, pscid),
		FIELD_PREP(IOTINVAL_ADDR, addr >> PAGE_SHIFT));
}

void hardware_invalidate_all(void)
{
	command(IOTINVAL_VMA, 0);
}

void hardware_fence(void)
{
	command(IOFENCE_C, 0);
}

/* What devices do from now on is done by this context; @valid and what is in it. */
static void aim(bool valid, u64 ta, u64 fsc)
{
	u32 ids[2];
	u64 *context;
	int i;

	devices_ids(ids);
	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		context = &iommu.directory[ids[i] * iommu.context_words];
		WRITE_ONCE(context[DC_TC], 0);
		WRITE_ONCE(context[DC_TA], ta);
		WRITE_ONCE(context[DC_FSC], fsc);
		/* It is valid no sooner than it is whole. */
		wmb();
		WRITE_ONCE(context[DC_TC], valid ? DC_TC_V : 0);
		command(IODIR_INVAL_DDT | IODIR_DV |
			FIELD_PREP(IODIR_DID, ids[i]), 0);
	}
	hardware_fence();
}

void hardware_aim(u32 pscid, struct mm_struct *mm)
{
	u64 mode = FIELD_GET(DC_FSC_MODE, csr_read(CSR_SATP));

	aim(true, FIELD_PREP(DC_TA_PSCID, pscid),
	    FIELD_PREP(DC_FSC_MODE, mode) |
	    FIELD_PREP(DC_FSC_PPN, virt_to_pfn(mm->pgd)));
}

void hardware_aim_nowhere(void)
{
	aim(false, 0, 0);
}

/* Addresses are those of memory: the mode is Bare. */
void hardware_aim_physical(void)
{
	aim(true, 0, 0);
}

/* The oldest fault that was reported, if there is one. */
bool hardware_fault(u32 *cause, unsigned long *addr)
{
	u32 head = get(REG_FQH) % FAULTS;
	u32 csr = get(REG_FQCSR);
	const u64 *record;

	if (csr & QCSR_ERRORS)
		hardware_failed(TLBDIFF_FAILED_FAULTS, csr);
	if (head == get(REG_FQT) % FAULTS)
		return false;
	record = &iommu.faults[head * FAULT_WORDS];
	*cause = FIELD_GET(FAULT_CAUSE, READ_ONCE(record[0]));
	*addr = READ_ONCE(record[FAULT_IOTVAL]);
	set(REG_FQH, (head + 1) % FAULTS);
	return true;
}

/* Whether the cache missed since @count was taken, which is brought up to date. */
static bool misses(u64 *count)
{
	u64 now = get64(REG_IOHPMCTR1);
	bool missed = now != *count;

	*count = now;
	return missed;
}

/* Whether a read of the device that is aimed would be answered from the cache. */
bool hardware_has(unsigned long addr)
{
	unsigned long where;
	bool fault, hit;
	u32 ids[2], cause;
	u64 count;

	devices_ids(ids);
	misses(&count);
	set64(REG_TR_REQ_IOVA, addr);
	set64(REG_TR_REQ_CTL, FIELD_PREP(TR_REQ_DID, ids[0]) | TR_REQ_NW |
	      TR_REQ_GO);
	if (!await(REG_TR_REQ_CTL, TR_REQ_GO, 0))
		hardware_failed(TLBDIFF_FAILED_TIMEOUT, get64(REG_TR_REQ_CTL));
	fault = get64(REG_TR_RESPONSE) & TR_RESPONSE_FAULT;
	hit = !misses(&count);
	/* It goes into the queue as any other. */
	while (fault && hardware_fault(&cause, &where))
		;
	return hit;
}

static int start_queue(unsigned int base, unsigned int csr, const u64 *page,
		       unsigned int entries)
{
	set64(base, FIELD_PREP(QUEUE_PPN, virt_to_pfn(page)) |
	      (ilog2(entries) - 1));
	set(csr, QCSR_ENABLE);
	return await(csr, QCSR_ON, QCSR_ON) ? 0 : -ETIMEDOUT;
}

static int start_all(void)
{
	int ret;

	ret = start_queue(REG_CQB, REG_CQCSR, iommu.commands, COMMANDS);
	if (!ret)
		ret = start_queue(REG_FQB, REG_FQCSR, iommu.faults, FAULTS);
	if (ret)
		return ret;
	set64(REG_IOHPMEVT1, EVENT_TLB_MISS);
	set(REG_IOCOUNTINH, 0);
	set64(REG_DDTP, FIELD_PREP(DDTP_PPN, virt_to_pfn(iommu.directory)) |
	      DDTP_MODE_1LVL);
	return 0;
}

static void stop_all(void)
{
	set64(REG_DDTP, DDTP_MODE_OFF);
	set(REG_FQCSR, 0);
	set(REG_CQCSR, 0);
	await(REG_CQCSR, QCSR_ON, 0);
	await(REG_FQCSR, QCSR_ON, 0);
}

static void free_memory(void)
{
	free_page((unsigned long)iommu.directory);
	free_page((unsigned long)iommu.commands);
	free_page((unsigned long)iommu.faults);
}

static int allocate(void)
{
	iommu.directory = (u64 *)get_zeroed_page(GFP_KERNEL);
	iommu.commands = (u64 *)get_zeroed_page(GFP_KERNEL);
	iommu.faults = (u64 *)get_zeroed_page(GFP_KERNEL);
	if (iommu.directory && iommu.commands && iommu.faults)
		return 0;
	free_memory();
	return -ENOMEM;
}

/* Where the IOMMU is. One that a driver of the kernel has is left to it. */
static int map_registers(void)
{
	struct device_node *node;
	int ret;

	node = of_find_compatible_node(NULL, NULL, "riscv,iommu");
	if (!node) {
		pr_err("this machine has no IOMMU: start QEMU with -machine virt,iommu-sys=on\n");
		return -ENODEV;
	}
	ret = of_address_to_resource(node, 0, &iommu.place);
	of_node_put(node);
	if (ret)
		return ret;
	if (!request_mem_region(iommu.place.start, resource_size(&iommu.place),
				KBUILD_MODNAME)) {
		pr_err("a driver of the kernel has the IOMMU: its command queue cannot be shared\n");
		return -EBUSY;
	}
	iommu.registers = ioremap(iommu.place.start,
				  resource_size(&iommu.place));
	if (iommu.registers)
		return 0;
	release_mem_region(iommu.place.start, resource_size(&iommu.place));
	return -ENOMEM;
}

static void unmap_registers(void)
{
	iounmap(iommu.registers);
	release_mem_region(iommu.place.start, resource_size(&iommu.place));
}

static int check_capabilities(void)
{
	u64 capabilities = get64(REG_CAPABILITIES);
	u32 ids[2];
	int i;

	if (!(capabilities & CAP_DBG) || !(capabilities & CAP_HPM)) {
		pr_err("the IOMMU has no debug interface or no counters, by which its cache is looked into (capabilities %#llx)\n",
		       capabilities);
		return -ENODEV;
	}
	iommu.context_words = capabilities & CAP_MSI_FLAT ? DC_WORDS_MAX :
							    DC_WORDS_MAX / 2;
	devices_ids(ids);
	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		if ((ids[i] + 1) * iommu.context_words * sizeof(u64) > PAGE_SIZE)
			return -ERANGE;
	}
	return 0;
}

int hardware_start(void)
{
	int ret;

	ret = map_registers();
	if (ret)
		return ret;
	ret = check_capabilities();
	if (ret)
		goto unmap;
	ret = allocate();
	if (ret)
		goto unmap;
	iommu.tail = 0;
	iommu.error = 0;
	ret = start_all();
	if (!ret)
		return 0;
	pr_err("the IOMMU's queues do not start: cqcsr %#x, fqcsr %#x\n",
	       get(REG_CQCSR), get(REG_FQCSR));
	stop_all();
	free_memory();
unmap:
	unmap_registers();
	return ret;
}

void hardware_stop(void)
{
	stop_all();
	free_memory();
	unmap_registers();
}

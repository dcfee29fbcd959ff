// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who called: the return addresses on the stack, from a function's entry
 * outwards.
 *
 * Many kernels have no frame pointers. But a function moves the stack pointer
 * in its prologue, and stores its return address there: its own instructions
 * say by how much and where. What is found so is believed only where it is
 * behind a call, in a function that the kernel knows; there the chain ends
 * otherwise.
 */
#include <linux/hash.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/minmax.h>
#include <linux/sched/task_stack.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "tlbdiff.h"

/* Return addresses of a chain, at the most; and in one record. */
#define CHAIN_MAX	30
#define IN_A_RECORD	5

/* Instructions of RISC-V. */
#define INSN_IS_LONG(insn)	(((insn) & 3) == 3)
#define INSN_EBREAK		0x00100073u
#define INSN_C_EBREAK		0x9002u

/* Entries of a set, at the most; a power of two. And how many are tried. */
#define SET_SIZE	4096
#define SET_TRIES	16

/*
 * Numbers other than 0, which are put in and never taken out. One that finds no
 * room is not in it, however often it is put in.
 */
struct set {
	u64 of[SET_SIZE];
};

/* What of this trace has been recorded. */
static struct set chains;
static struct set addresses;

/*
 * What is known of return addresses: packed, so that each is written at once.
 * Stays as long as the module, for the kernel's text does.
 */
static u64 frames[SET_SIZE];

#define PACKED_ADDRESS		GENMASK_ULL(39, 0)
#define PACKED_SIZE_SHIFT	40
#define PACKED_SLOT_SHIFT	52
#define PACKED_MASK		0xfffull

/* Of the function that a return address is in. */
struct frame {
	unsigned long size;	/* 0 where it is not known */
	unsigned long slot;	/* from the stack pointer: its return address */
};

/* Whether @number was not in the set. */
static bool __kprobes set_add(struct set *set, u64 number)
{
	unsigned int at = hash_64(number, ilog2(SET_SIZE));
	unsigned int tries;

	for (tries = 0; tries < SET_TRIES; tries++) {
		u64 *place = &set->of[(at + tries) % SET_SIZE];
		u64 found = READ_ONCE(*place);

		if (!found)
			found = cmpxchg(place, 0, number);
		if (!found)
			return true;
		if (found == number)
			return false;
	}
	return true;
}

/* Of 16 bits, or of 32. What a kprobe of ours has taken the place of is seen. */
static bool __kprobes read_insn(unsigned long addr, u32 *insn)
{
	u16 half[2] = {};

	if (get_kernel_nofault(half[0], (u16 *)addr))
		return false;
	if (INSN_IS_LONG(half[0]) &&
	    get_kernel_nofault(half[1], (u16 *)(addr + 2)))
		return false;
	*insn = half[0] | (u32)half[1] << 16;
	if (*insn == INSN_EBREAK || *insn == INSN_C_EBREAK)
		*insn = probe_original(addr) ?: *insn;
	return true;
}

/* addi sp, sp, imm; c.addi; c.addi16sp. */
static bool __kprobes moves_sp(u32 insn, long *by)
{
	if ((insn & 0xfffff) == 0x10113) {
		*by = (s32)insn >> 20;
		return true;
	}
	if (INSN_IS_LONG(insn))
		return false;
	if ((insn & 0xef83) == 0x0101) {
		*by = sign_extend64((insn >> 7 & 0x20) | (insn >> 2 & 0x1f), 5);
		return true;
	}
	if ((insn & 0xef83) == 0x6101) {
		*by = sign_extend64((insn >> 3 & 0x200) | (insn >> 2 & 0x10) |
				    (insn << 1 & 0x40) | (insn << 4 & 0x180) |
				    (insn << 3 & 0x20), 9);
		return true;
	}
	return false;
}

/* add or sub sp, sp, reg: by how much is not followed. */
static bool __kprobes moves_sp_by_register(u32 insn)
{
	if (INSN_IS_LONG(insn))
		return (insn & 0xfffff) == 0x10133;
	return (insn & 0xff83) == 0x9102 && insn & 0x7c;
}

/* sd ra, imm(sp); c.sdsp. */
static bool __kprobes stores_ra(u32 insn, long *slot)
{
	if ((insn & 0x1fff07f) == 0x113023) {
		*slot = ((s32)insn >> 25) * 32 + (insn >> 7 & 0x1f);
		return true;
	}
	if (!INSN_IS_LONG(insn) && (insn & 0xe07f) == 0xe006) {
		*slot = (insn >> 7 & 0x38) | (insn >> 1 & 0x1c0);
		return true;
	}
	return false;
}

/* A branch, jump or call. */
static bool __kprobes leaves(u32 insn)
{
	u32 op = insn & 0x7f;

	if (INSN_IS_LONG(insn))
		return op == 0x63 || op == 0x67 || op == 0x6f;
	if ((insn & 3) == 1)
		return (insn & 0xe000) >= 0xa000;
	return (insn & 0xe07f) == 0x8002;
}

/* Of the function whose instructions are these. */
static struct frame __kprobes read_frame(unsigned long start, unsigned long end)
{
	long size = 0, slot = -1, by;
	unsigned long at = start;
	u32 insn;

	while (at < end && read_insn(at, &insn)) {
		at += INSN_IS_LONG(insn) ? 4 : 2;
		if (moves_sp_by_register(insn))
			return (struct frame) {};
		if (moves_sp(insn, &by)) {
			if (by >= 0)
				break;
			size -= by;
			if (slot >= 0)
				slot -= by;
		} else if (slot < 0) {
			/* What is stored before the stack is moved is none. */
			if (stores_ra(insn, &by) && size)
				slot = by;
		} else if (leaves(insn)) {
			break;
		}
	}
	if (slot < 0 || slot & 7 || slot > size - 8 || size >> 3 > PACKED_MASK)
		return (struct frame) {};
	return (struct frame) { .size = size, .slot = slot };
}

/* jal ra, or jalr ra, or c.jalr. */
static bool __kprobes is_behind_a_call(unsigned long addr)
{
	u32 insn;

	if (!read_insn(addr - 4, &insn))
		return false;
	if ((insn & 0xfff) == 0xef || (insn & 0x7fff) == 0xe7)
		return true;
	if (!read_insn(addr - 2, &insn))
		return false;
	return !INSN_IS_LONG(insn) && (insn & 0xf07f) == 0x9002 &&
	       insn & 0xf80;
}

/*
 * Where what called is no function's but the processor's doing, or nobody's:
 * the stack holds registers there, and nothing that could be followed.
 */
static bool __kprobes is_outermost(const char *name)
{
	return str_has_prefix(name, "handle_exception") ||
	       str_has_prefix(name, "ret_from_") ||
	       str_has_prefix(name, "call_on_irq_stack");
}

/* Whether a function was called from there; and what is known of that one. */
static bool __kprobes look_up(unsigned long addr, struct frame *frame,
			      bool *keep)
{
	char name[KSYM_SYMBOL_LEN];
	unsigned long offset, size;
	char *plus;

	if (addr & 1 || !is_behind_a_call(addr))
		return false;
	/* A call that does not return may be a function's last instruction. */
	sprint_symbol(name, addr - 1);
	plus = strrchr(name, '+');
	if (!plus || sscanf(plus, "+%lx/%lx", &offset, &size) != 2)
		return false;
	addr -= offset + 1;
	*frame = (struct frame) {};
	if (!is_outermost(name))
		*frame = read_frame(addr, addr + size);
	/* A module's text goes, and another comes there. */
	*keep = name[strlen(name) - 1] != ']';
	return true;
}

/* The same, which is looked up once. */
static bool __kprobes frame_of(unsigned long addr, struct frame *frame)
{
	u64 *place = &frames[hash_64(addr, ilog2(SET_SIZE))];
	u64 known = READ_ONCE(*place);
	bool keep;

	if (known && !((known ^ addr) & PACKED_ADDRESS)) {
		frame->size = (known >> PACKED_SIZE_SHIFT & PACKED_MASK) << 3;
		frame->slot = (known >> PACKED_SLOT_SHIFT) << 3;
		return true;
	}
	if (!look_up(addr, frame, &keep))
		return false;
	if (keep)
		WRITE_ONCE(*place, (addr & PACKED_ADDRESS) |
			   (u64)frame->size >> 3 << PACKED_SIZE_SHIFT |
			   (u64)frame->slot >> 3 << PACKED_SLOT_SHIFT);
	return true;
}

/* How many return addresses were found. */
static unsigned int __kprobes follow(unsigned long ra, unsigned long sp,
				     unsigned long *chain)
{
	unsigned long bottom = (unsigned long)task_stack_page(current);
	unsigned int found = 0;
	struct frame frame;

	while (found < CHAIN_MAX && frame_of(ra, &frame)) {
		chain[found++] = ra;
		if (!frame.size || sp & 7 || sp < bottom ||
		    sp + frame.size > bottom + THREAD_SIZE)
			break;
		if (get_kernel_nofault(ra, (unsigned long *)(sp + frame.slot)))
			break;
		sp += frame.size;
	}
	return found;
}

static u64 __kprobes number_of(const unsigned long *chain, unsigned int found)
{
	u64 number = found;
	unsigned int i;

	for (i = 0; i < found; i++) {
		number = (number ^ chain[i]) * GOLDEN_RATIO_64;
		number ^= number >> 32;
	}
	return number ?: 1;
}

static void __kprobes record(u64 number, const unsigned long *chain,
			     unsigned int found)
{
	struct tlbdiff_record rec = { .kind = TLBDIFF_CHAIN };
	u64 *const words[IN_A_RECORD] = {
		&rec.start, &rec.end, &rec.arg, &rec.cpumask, &rec.asid,
	};
	unsigned int first, i;

	for (first = 0; first < found; first += IN_A_RECORD) {
		for (i = 0; i < IN_A_RECORD; i++)
			*words[i] = first + i < found ? chain[first + i] : 0;
		rec.flags = first;
		rec.chain = number;
		ring_add(&rec, NULL);
	}
}

/*
 * The number of the chain of callers of a function that is being entered; 0
 * where they are not known. The chain is recorded when it is first seen.
 */
u64 __kprobes callers_note(const struct tlbdiff_entry *entry)
{
	unsigned long chain[CHAIN_MAX];
	unsigned int found, i;
	u64 number;

	found = follow(entry->ra, entry->sp, chain);
	if (!found)
		return 0;
	number = number_of(chain, found);
	if (set_add(&chains, number)) {
		for (i = 0; i < found; i++)
			set_add(&addresses, chain[i]);
		record(number, chain, found);
	}
	return number;
}

/* A trace begins: nothing was recorded. */
void callers_begin(void)
{
	memset(&chains, 0, sizeof(chains));
	memset(&addresses, 0, sizeof(addresses));
}

static void name(unsigned long addr)
{
	struct tlbdiff_record rec = { .kind = TLBDIFF_SYMBOL };
	char text[KSYM_SYMBOL_LEN] = {};
	char *const words[IN_A_RECORD] = {
		(char *)&rec.start, (char *)&rec.end, (char *)&rec.arg,
		(char *)&rec.cpumask, (char *)&rec.asid,
	};
	unsigned int at, i;

	sprint_symbol(text, addr - 1);
	for (at = 0; at < sizeof(text) && text[at]; at += IN_A_RECORD * 8) {
		for (i = 0; i < IN_A_RECORD; i++) {
			unsigned int from = at + i * 8;

			memset(words[i], 0, 8);
			if (from < sizeof(text))
				memcpy(words[i], text + from,
				       min_t(size_t, 8, sizeof(text) - from));
		}
		rec.flags = at;
		rec.chain = addr;
		ring_add(&rec, NULL);
	}
}

/* A trace ends: the kernel's names for what was recorded. Nothing is in a step. */
void callers_end(void)
{
	unsigned int i;

	for (i = 0; i < SET_SIZE; i++) {
		if (addresses.of[i])
			name(addresses.of[i]);
	}
}

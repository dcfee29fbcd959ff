// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two devices of QEMU's. A sound card (intel-hda) without any codec fetches one
 * command of four bytes as soon as it is told where: a read that takes a
 * microsecond, of which nothing is seen. It loads the IOMMU's cache. The device for
 * teaching (edu) has a buffer and moves bytes between it and memory, which takes it
 * a tenth of a second.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/io.h>
#include <linux/pci.h>

#include "../tlbdiff_uapi.h"
#include "iommu.h"

#define EDU_VENDOR		0x1234
#define EDU_DEVICE		0x11e8
#define EDU_DMA_SOURCE		0x80
#define EDU_DMA_DESTINATION	0x88
#define EDU_DMA_COUNT		0x90
#define EDU_DMA_COMMAND		0x98
#define   EDU_DMA_RUN		BIT(0)
#define   EDU_DMA_TO_MEMORY	BIT(1)
#define EDU_BUFFER		0x40000

#define HDA_DEVICE		0x2668
#define HDA_GCTL		0x08
#define HDA_CORBLBASE		0x40
#define HDA_CORBUBASE		0x44
#define HDA_CORBWP		0x48
#define HDA_CORBRP		0x4a
#define HDA_CORBCTL		0x4c
#define   HDA_CORBCTL_RUN	BIT(1)
#define HDA_RINTCNT		0x5a
#define HDA_COMMANDS		256

/* How long the slow one may take for one piece, in milliseconds. */
#define PATIENCE		2000

struct device_of {
	struct pci_dev *pci;
	void __iomem *registers;
};

static struct device_of edu, hda;
static u16 hda_written;

void devices_ids(u32 ids[2])
{
	ids[0] = pci_dev_id(edu.pci);
	ids[1] = pci_dev_id(hda.pci);
}

static void put(struct device_of *device)
{
	if (!device->pci)
		return;
	if (device->registers) {
		pci_iounmap(device->pci, device->registers);
		pci_clear_master(device->pci);
		pci_disable_device(device->pci);
	}
	pci_dev_put(device->pci);
	*device = (struct device_of) {};
}

static int find(struct device_of *device, unsigned int vendor, unsigned int id,
		const char *name)
{
	int ret;

	device->pci = pci_get_device(vendor, id, NULL);
	if (!device->pci) {
		pr_err("there is no device behind the IOMMU: start QEMU with -device %s\n",
		       name);
		return -ENODEV;
	}
	/* A machine that was saved and restored has lost what the kernel wrote. */
	pci_write_config_dword(device->pci, PCI_BASE_ADDRESS_0,
			       lower_32_bits(pci_resource_start(device->pci, 0)));
	ret = pci_enable_device(device->pci);
	if (ret)
		goto put;
	pci_set_master(device->pci);
	device->registers = pci_iomap(device->pci, 0, 0);
	if (device->registers)
		return 0;
	pci_disable_device(device->pci);
	ret = -ENOMEM;
put:
	pci_dev_put(device->pci);
	device->pci = NULL;
	return ret;
}

/* Out of reset, with an empty ring that it reads. */
static void start_hda(void)
{
	writel(1, hda.registers + HDA_GCTL);
	/* It stops when so many were answered, which none is. */
	writew(HDA_COMMANDS - 1, hda.registers + HDA_RINTCNT);
	writew(0, hda.registers + HDA_CORBRP);
	writew(0, hda.registers + HDA_CORBWP);
	writeb(HDA_CORBCTL_RUN, hda.registers + HDA_CORBCTL);
	hda_written = 0;
}

int devices_start(void)
{
	int ret;

	ret = find(&edu, EDU_VENDOR, EDU_DEVICE,
		   "edu,dma_mask=0xffffffffffffffff");
	if (ret)
		return ret;
	ret = find(&hda, PCI_VENDOR_ID_INTEL, HDA_DEVICE, "intel-hda");
	if (ret) {
		put(&edu);
		return ret;
	}
	start_hda();
	return 0;
}

void devices_stop(void)
{
	put(&hda);
	put(&edu);
}

/* Reads four bytes of this page. The ring begins there, whatever it holds. */
void device_touch(unsigned long addr)
{
	writel(lower_32_bits(addr & PAGE_MASK), hda.registers + HDA_CORBLBASE);
	writel(upper_32_bits(addr), hda.registers + HDA_CORBUBASE);
	hda_written = (hda_written + 1) % HDA_COMMANDS;
	writew(hda_written, hda.registers + HDA_CORBWP);
}

/*
 * Moves bytes between memory, at an address of the device's, and its buffer, from
 * @offset on. What the IOMMU refuses is not moved, and nothing here says so.
 */
int device_copy(bool to_memory, u64 addr, unsigned int offset,
		unsigned int length)
{
	u64 buffer = EDU_BUFFER + offset;
	int waited;

	writeq(to_memory ? buffer : addr, edu.registers + EDU_DMA_SOURCE);
	writeq(to_memory ? addr : buffer, edu.registers + EDU_DMA_DESTINATION);
	writeq(length, edu.registers + EDU_DMA_COUNT);
	writeq(EDU_DMA_RUN | (to_memory ? EDU_DMA_TO_MEMORY : 0),
	       edu.registers + EDU_DMA_COMMAND);
	for (waited = 0; waited < PATIENCE; waited++) {
		if (!(readq(edu.registers + EDU_DMA_COMMAND) & EDU_DMA_RUN))
			return 0;
		usleep_range(1000, 2000);
	}
	hardware_failed(TLBDIFF_FAILED_DEVICE, addr);
	return -ETIMEDOUT;
}

/*
 * What runs when the emulated machine is switched on, instead of a BIOS.
 *
 * The kernel, its parameters, page tables and the initramfs are in memory already (memory.py, from
 * where the names in capitals come).  All that is left is to reach long mode as the kernel's
 * boot protocol wants it (Documentation/arch/x86/boot.rst, "64-bit boot protocol") and to jump.
 */

#define MSR_EFER		0xc0000080
#define EFER_LME		0x100
#define MSR_MTRR_DEFTYPE	0x2ff
#define MTRR_ENABLED_WB		0x806
#define CR0_PE_ET_PG		0x80000011
#define CR4_PAE			0x20
#define BOOT_CS			0x10
#define BOOT_DS			0x18

	.section .text, "ax"
	.code16
start:
	cli
	lgdtl	%cs:(descriptors - start)
	movl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	$PAGE_TABLES, %eax
	movl	%eax, %cr3
	xorl	%edx, %edx
	movl	$MSR_EFER, %ecx
	movl	$EFER_LME, %eax
	wrmsr
	/* All memory is write-back: a BIOS would have set the range registers. */
	movl	$MSR_MTRR_DEFTYPE, %ecx
	movl	$MTRR_ENABLED_WB, %eax
	wrmsr
	movl	$CR0_PE_ET_PG, %eax
	movl	%eax, %cr0
	ljmpl	$BOOT_CS, $long_mode

	.code64
long_mode:
	movl	$BOOT_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%eax, %ss

	/* What Bochs itself has said on standard output ends with this line. */
	movb	$0, %al
	outb	%al, $0xe9
	movb	$'\n', %al
	outb	%al, $0xe9

	/*
	 * Bochs gives out its memory in blocks, in the order of their first use, but loads an
	 * image in one piece: the first uses must come in ascending order.
	 */
	xorl	%edi, %edi
1:	movb	(%rdi), %al
	addl	$BLOCK, %edi
	cmpl	$SIZE, %edi
	jb	1b

	movl	$PARAMETERS, %esi
	movl	$ENTRY, %eax
	jmp	*(%rax)

	.balign	8
table:
	.quad	0
	.quad	0
	.quad	0x00af9b000000ffff	/* BOOT_CS: 64-bit code */
	.quad	0x00cf93000000ffff	/* BOOT_DS: data */
descriptors:
	.word	descriptors - table - 1
	.long	table

	.section .reset, "ax"
	.code16
	/* From the end of the address space to its alias in the first MiB. */
	ljmpw	$(AT >> 4), $(start - AT)
	.fill	16 - (. - .reset), 1, 0

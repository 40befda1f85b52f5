/* The entry point, on a stack of the program's own, and where signals are delivered to. */

	.section .note.GNU-stack, "", @progbits
	.text

	.globl _start
_start:
	mov	%rsp, %rdi
	xor	%ebp, %ebp
	lea	stack_end(%rip), %rsp
	call	begin
	ud2

	/* Never executed: the tracer looks at the frame and sets the task to something else. */
	.globl handler
handler:
	ud2

	/* The tracer's timer: it only ends a wait. */
	.globl interrupted
interrupted:
	ret

	.globl restorer
restorer:
	mov	$15, %eax
	syscall
	ud2

	.bss
	.balign	4096
	.skip	65536
stack_end:

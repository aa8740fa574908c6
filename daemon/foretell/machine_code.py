"""Modules of LLVM's intermediate representation to machine code for this processor."""

from __future__ import annotations

from typing import Any

from llvmlite import binding as llvm


def compile_module(text: str, *, is_tuned: bool = False) -> Any:
    """Compile a module; the engine that gives its functions' addresses and holds the memory that they lie in.

    is_tuned: it is written in vectors and unrolled as it should be, so that there is nothing to look for. Raises
    RuntimeError where LLVM refuses.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(text)
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
    )
    tuning = llvm.create_pipeline_tuning_options(speed_level=1 if is_tuned else 2)
    if is_tuned:
        tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine

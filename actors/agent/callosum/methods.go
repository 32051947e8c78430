package callosum

// The methods of a 22.03 agent (spec §5).
const (
	MethodPing                  = "ping"
	MethodPingKernel            = "ping_kernel"
	MethodGatherHWInfo          = "gather_hwinfo"
	MethodUpdateScalingGroup    = "update_scaling_group"
	MethodCreateKernels         = "create_kernels"
	MethodDestroyKernel         = "destroy_kernel"
	MethodRestartKernel         = "restart_kernel"
	MethodInterruptKernel       = "interrupt_kernel"
	MethodGetCompletions        = "get_completions"
	MethodGetLogs               = "get_logs"
	MethodExecute               = "execute"
	MethodExecuteBatch          = "execute_batch" // deprecated
	MethodStartService          = "start_service"
	MethodShutdownService       = "shutdown_service"
	MethodUploadFile            = "upload_file"
	MethodDownloadFile          = "download_file"
	MethodListFiles             = "list_files"
	MethodShutdownAgent         = "shutdown_agent" // official agents do nothing
	MethodCreateLocalNetwork    = "create_local_network"
	MethodDestroyLocalNetwork   = "destroy_local_network"
	MethodCreateOverlayNetwork  = "create_overlay_network"
	MethodDestroyOverlayNetwork = "destroy_overlay_network"
	MethodResetAgent            = "reset_agent" // official agents stop nothing
	// MethodCleanAllKernels is called by the 22.03 manager but served by the bundled agent alone; an official agent
	// never answers it (spec §5.24).
	MethodCleanAllKernels = "clean_all_kernels"
)

"""The memory model: many VMs on many hosts, under the very policies of a running lab."""

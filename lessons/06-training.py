# # Chapter 06: training
